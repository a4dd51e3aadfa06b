package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// addAskingTools adds the tools, and the prompt, that answer a first call with
// what they need to know, and the call that brings it with their result.
func addAskingTools(srv *server.MCPServer) error {
	key := make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	s := signer(key)
	const prefix = "test_input_required_result_"
	for name, handler := range map[string]server.ToolHandlerFunc{
		prefix + "elicitation":       askName,
		prefix + "sampling":          askCapital,
		prefix + "list_roots":        askRoots,
		prefix + "request_state":     s.confirm,
		prefix + "tampered_state":    s.confirm,
		prefix + "multiple_inputs":   s.askAll,
		prefix + "multi_round":       s.askTwice,
		prefix + "capabilities":      askWhatIsDeclared,
		"test_streaming_elicitation": askName,
	} {
		srv.AddTool(mcp.NewTool(name, mcp.WithDescription("Needs input")), handler)
	}
	srv.AddTool(mcp.NewTool("test_missing_capability", mcp.WithDescription("Needs a client that samples")), needSampling)
	srv.AddPrompt(mcp.NewPrompt(prefix+"prompt", mcp.WithPromptDescription("Needs input")),
		func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			about := field(req.Params.InputResponses, "user_context", "context")
			if about == "" {
				return ask("").Elicit("user_context", form("What context should the prompt use?", "context", "string")).PromptResult(), nil
			}
			return prompt(mcp.NewTextContent("Use this context: " + about)), nil
		})
	return nil
}

func askName(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	name := field(req.Params.InputResponses, "user_name", "name")
	if name == "" {
		return ask("").Elicit("user_name", form("What is your name?", "name", "string")).ToolResult(), nil
	}
	return mcp.NewToolResultText("Hello, " + name + "!"), nil
}

func askCapital(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	answer := server.SamplingResponse(req.Params.InputResponses, "capital_question")
	if answer == nil {
		return ask("").Sample("capital_question", question("What is the capital of France?", 100)).ToolResult(), nil
	}
	return mcp.NewToolResultText(fmt.Sprintf("The model says: %v", answer.Content)), nil
}

func askRoots(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	roots := server.RootsResponse(req.Params.InputResponses, "client_roots")
	if roots == nil {
		return ask("").Roots("client_roots").ToolResult(), nil
	}
	return mcp.NewToolResultText("Roots: " + rootURIs(roots)), nil
}

// askWhatIsDeclared asks only for what the client says that it can answer.
func askWhatIsDeclared(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	info := server.RequestProtocolInfoFromContext(ctx)
	if info == nil || info.ClientCapabilities == nil {
		return mcp.NewToolResultText("The client declares nothing."), nil
	}
	b := ask("")
	if info.ClientCapabilities.Sampling != nil {
		b.Sample("greeting", question("Generate a greeting", 50))
	}
	if info.ClientCapabilities.Elicitation != nil {
		b.Elicit("user_name", form("What is your name?", "name", "string"))
	}
	return b.ToolResult(), nil
}

// needSampling refuses a client that doesn't say that it can sample.
func needSampling(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	info := server.RequestProtocolInfoFromContext(ctx)
	if info == nil || info.ClientCapabilities == nil || info.ClientCapabilities.Sampling == nil {
		return nil, mcp.MissingRequiredClientCapabilityError{Capability: "sampling"}
	}
	return mcp.NewToolResultText("the client can sample"), nil
}

// signer signs the state that a client carries from one call to the next, so
// that it can't be another.
type signer []byte

func (s signer) confirm(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if req.Params.RequestState == "" {
		return ask(s.sign("confirm")).Elicit("confirm", form("Please confirm", "ok", "boolean")).ToolResult(), nil
	}
	if _, err := s.check(req.Params.RequestState); err != nil {
		return nil, err
	}
	return mcp.NewToolResultText("state-ok"), nil
}

func (s signer) askAll(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	in := req.Params.InputResponses
	name, greeting, roots := field(in, "user_name", "name"), server.SamplingResponse(in, "greeting"), server.RootsResponse(in, "client_roots")
	if name == "" || greeting == nil || roots == nil {
		return ask(s.sign("all")).
			Elicit("user_name", form("What is your name?", "name", "string")).
			Sample("greeting", question("Generate a greeting", 50)).
			Roots("client_roots").
			ToolResult(), nil
	}
	if _, err := s.check(req.Params.RequestState); err != nil {
		return nil, err
	}
	return mcp.NewToolResultText(fmt.Sprintf("%v, %s at %s", greeting.Content, name, rootURIs(roots))), nil
}

func (s signer) askTwice(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if req.Params.RequestState == "" {
		return ask(s.sign("")).Elicit("step1", form("Step 1: What is your name?", "name", "string")).ToolResult(), nil
	}
	name, err := s.check(req.Params.RequestState)
	if err != nil {
		return nil, err
	}
	if first := field(req.Params.InputResponses, "step1", "name"); first != "" {
		return ask(s.sign(first)).Elicit("step2", form("Step 2: What is your favorite color?", "color", "string")).ToolResult(), nil
	}
	return mcp.NewToolResultText(name + " likes " + field(req.Params.InputResponses, "step2", "color")), nil
}

func (s signer) sign(state string) string {
	return hex.EncodeToString(s.mac(state)) + "." + hex.EncodeToString([]byte(state))
}

// check returns the state that sign was given.
func (s signer) check(signed string) (string, error) {
	mac, state, _ := strings.Cut(signed, ".")
	gotMAC, err := hex.DecodeString(mac)
	if err != nil {
		return "", errors.New("the request state is not this server's")
	}
	got, err := hex.DecodeString(state)
	if err != nil || !hmac.Equal(gotMAC, s.mac(string(got))) {
		return "", errors.New("the request state is not this server's")
	}
	return string(got), nil
}

func (s signer) mac(state string) []byte {
	h := hmac.New(sha256.New, s)
	h.Write([]byte(state))
	return h.Sum(nil)
}

func ask(state string) *server.InputRequestBuilder { return server.NewInputRequestBuilder(state) }

// form asks a user for one field.
func form(message, field, kind string) mcp.ElicitationParams {
	return mcp.ElicitationParams{Message: message, RequestedSchema: map[string]any{
		"type":       "object",
		"properties": map[string]any{field: map[string]any{"type": kind}},
		"required":   []string{field},
	}}
}

func question(text string, maxTokens int) mcp.CreateMessageParams {
	return mcp.CreateMessageParams{
		Messages:  []mcp.SamplingMessage{{Role: mcp.RoleUser, Content: mcp.NewTextContent(text)}},
		MaxTokens: maxTokens,
	}
}

// field is what the user put into a field of a form, or "".
func field(in mcp.InputResponses, form, field string) string {
	answer := server.ElicitationResponse(in, form)
	if answer == nil {
		return ""
	}
	fields, _ := answer.Content.(map[string]any)
	value, _ := fields[field].(string)
	return value
}

func rootURIs(roots *mcp.ListRootsResult) string {
	uris := make([]string, len(roots.Roots))
	for i, r := range roots.Roots {
		uris[i] = r.URI
	}
	return strings.Join(uris, ", ")
}
