package tools

import (
	"encoding/base64"

	"github.com/mark3labs/mcp-go/mcp"
)

// Result is what a tool answers with.
type Result struct {
	// Text is the answer, complete without the rest.
	Text string

	// Record is the same answer as a JSON object, complete without Text,
	// for clients that show the model only that. Nil for bulk text.
	Record any

	// Image is a picture to show beside Text, without a Record.
	Image *Image

	// Failed makes the answer a tool error that keeps its Text whole.
	Failed bool
}

// Image is a picture as its file holds it.
type Image struct {
	MIMEType string
	Data     []byte
}

// callResult is the result on the wire. Its text is never empty: some clients
// show nothing for an empty one, and some APIs refuse it.
func (r Result) callResult() *mcp.CallToolResult {
	text := r.Text
	if text == "" {
		text = "(no output)"
	}
	out := mcp.NewToolResultText(text)
	out.IsError = r.Failed
	if r.Image != nil {
		data := base64.StdEncoding.EncodeToString(r.Image.Data)
		out.Content = append(out.Content, mcp.NewImageContent(data, r.Image.MIMEType))
		return out
	}
	out.StructuredContent = r.Record
	return out
}

// errorResult is a tool error with text as its only content.
func errorResult(text string) *mcp.CallToolResult {
	return mcp.NewToolResultError(text)
}
