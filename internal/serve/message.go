package serve

import (
	"encoding/json"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// maxID is how long a request's id may be, in bytes: it is kept longer than the
// request, and sent back with whatever answers it.
const maxID = 1 << 10

// badID refuses a request for its id.
const badID = "the request's id must be a string or a number, of 1024 bytes at most"

// codeBusy is the JSON-RPC error code, of the range left to servers, for a
// request that was refused because of the others in flight.
const codeBusy = -32000

// message is what the guard needs to know of a message from the client.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		RequestID json.RawMessage `json:"requestId"` // of notifications/cancelled
		Meta      struct {
			ProgressToken any `json:"progressToken"`
		} `json:"_meta"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// idKey makes request ids comparable; the number 1 and the string "1" differ.
// ok is false for what is neither a number nor a string, or is too long.
func idKey(id json.RawMessage) (key string, ok bool) {
	text := strings.TrimSpace(string(id))
	if text == "" || len(text) > maxID {
		return "", false
	}
	switch c := text[0]; {
	case c == '"':
		var s string
		if json.Unmarshal([]byte(text), &s) != nil {
			return "", false
		}
		return "s" + s, true
	case c == '-' || '0' <= c && c <= '9':
		return "n" + text, true
	}
	return "", false
}

// answer encodes the server's response to the request id. The id goes back as
// the client wrote it, whatever the server made of it.
func answer(id json.RawMessage, resp mcp.JSONRPCMessage) ([]byte, error) {
	switch r := resp.(type) {
	case mcp.JSONRPCResponse:
		return json.Marshal(struct {
			JSONRPC string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Result  any             `json:"result"`
		}{r.JSONRPC, id, r.Result})
	case mcp.JSONRPCError:
		return json.Marshal(struct {
			JSONRPC string                  `json:"jsonrpc"`
			ID      json.RawMessage         `json:"id"`
			Error   mcp.JSONRPCErrorDetails `json:"error"`
		}{r.JSONRPC, id, r.Error})
	default:
		return json.Marshal(resp)
	}
}

// errorAnswer is an error response. A nil id is sent as null.
func errorAnswer(id json.RawMessage, code int, text string) []byte {
	line, err := answer(id, mcp.JSONRPCError{
		JSONRPC: mcp.JSONRPC_VERSION,
		Error:   mcp.NewJSONRPCErrorDetails(code, text, nil),
	})
	if err != nil {
		// Not reached: ids come out of the JSON decoder, the rest is ours.
		panic("encode an error answer: " + err.Error())
	}
	return line
}
