package main

import (
	"context"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// A PNG of one pixel and a WAV of one sample, in base64.
const (
	onePixel  = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
	oneSample = "UklGRiUAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQEAAACA"
)

// addContentTools adds the tools that answer with each kind of content.
func addContentTools(srv *server.MCPServer) {
	tools := []struct {
		name, about string
		result      mcp.CallToolResult
	}{
		{"test_simple_text", "Answers with text", content(
			mcp.NewTextContent("This is a simple text response for testing."),
		)},
		{"test_image_content", "Answers with an image", content(
			mcp.NewImageContent(onePixel, "image/png"),
		)},
		{"test_audio_content", "Answers with audio", content(
			mcp.NewAudioContent(oneSample, "audio/wav"),
		)},
		{"test_embedded_resource", "Answers with a resource", content(
			embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
		)},
		{"test_multiple_content_types", "Answers with text, an image and a resource", content(
			mcp.NewTextContent("Multiple content types test:"),
			mcp.NewImageContent(onePixel, "image/png"),
			embedded("test://mixed-content-resource", "application/json", `{"test":"data","value":123}`),
		)},
		{"test_error_handling", "Answers with a tool error", mcp.CallToolResult{
			IsError: true,
			Content: []mcp.Content{mcp.NewTextContent("This tool intentionally returns an error for testing")},
		}},
	}
	for _, t := range tools {
		srv.AddTool(mcp.NewTool(t.name, mcp.WithDescription(t.about)),
			func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				result := t.result
				return &result, nil
			})
	}
}

func content(c ...mcp.Content) mcp.CallToolResult { return mcp.CallToolResult{Content: c} }

func embedded(uri, mimeType, text string) mcp.EmbeddedResource {
	return mcp.NewEmbeddedResource(mcp.TextResourceContents{URI: uri, MIMEType: mimeType, Text: text})
}

// addSchemaTools adds the tools that the suite calls for their input schemas.
func addSchemaTools(srv *server.MCPServer) {
	done := func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText("done"), nil
	}
	srv.AddTool(mcp.NewToolWithRawSchema("json_schema_2020_12_tool", "Has a schema of many keywords", []byte(`{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type": "object",
		"$defs": {
			"address": {
				"$anchor": "addressDef",
				"type": "object",
				"properties": {"street": {"type": "string"}, "city": {"type": "string"}}
			}
		},
		"properties": {
			"name": {"type": "string"},
			"address": {"$ref": "#/$defs/address"},
			"contactMethod": {"type": "string", "enum": ["phone", "email"]},
			"phone": {"type": "string"},
			"email": {"type": "string"}
		},
		"allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
		"if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
		"then": {"required": ["phone"]},
		"else": {"required": ["email"]},
		"additionalProperties": false
	}`)), done)
	srv.AddTool(mcp.NewToolWithRawSchema("test_header_parameter", "Has a parameter that is repeated in a header", []byte(`{
		"type": "object",
		"properties": {"value": {"type": "string", "x-mcp-header": "Value"}}
	}`)), done)
}
