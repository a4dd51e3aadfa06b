package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// addResources adds the resources that the suite lists, reads and watches.
func addResources(srv *server.MCPServer) {
	for _, r := range []mcp.ResourceContents{
		mcp.TextResourceContents{
			URI: "test://static-text", MIMEType: "text/plain",
			Text: "This is the content of the static text resource.",
		},
		mcp.BlobResourceContents{URI: "test://static-binary", MIMEType: "image/png", Blob: onePixel},
		mcp.TextResourceContents{URI: "test://watched-resource", MIMEType: "text/plain", Text: "Watch me."},
	} {
		uri, mimeType := describe(r)
		name := strings.TrimPrefix(uri, "test://")
		srv.AddResource(mcp.NewResource(uri, name, mcp.WithResourceDescription("The resource "+name), mcp.WithMIMEType(mimeType)),
			func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
				return []mcp.ResourceContents{r}, nil
			})
	}

	const before, after = "test://template/", "/data"
	template := mcp.NewResourceTemplate(before+"{id}"+after, "template",
		mcp.WithTemplateDescription("A resource for each id"), mcp.WithTemplateMIMEType("application/json"))
	srv.AddResourceTemplate(template, func(_ context.Context, req mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
		id := strings.TrimSuffix(strings.TrimPrefix(req.Params.URI, before), after)
		text, err := json.Marshal(map[string]any{"id": id, "templateTest": true, "data": "Data for ID: " + id})
		if err != nil {
			return nil, fmt.Errorf("encode resource: %w", err)
		}
		return []mcp.ResourceContents{mcp.TextResourceContents{
			URI: req.Params.URI, MIMEType: "application/json", Text: string(text),
		}}, nil
	})
}

func describe(r mcp.ResourceContents) (uri, mimeType string) {
	switch r := r.(type) {
	case mcp.TextResourceContents:
		return r.URI, r.MIMEType
	case mcp.BlobResourceContents:
		return r.URI, r.MIMEType
	}
	return "", ""
}

// addPrompts adds the prompts that the suite lists, gets and completes.
func addPrompts(srv *server.MCPServer) {
	srv.AddPrompt(mcp.NewPrompt("test_simple_prompt", mcp.WithPromptDescription("A prompt without arguments")),
		func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return prompt(mcp.NewTextContent("This is a simple prompt for testing.")), nil
		})
	srv.AddPrompt(mcp.NewPrompt("test_prompt_with_arguments", mcp.WithPromptDescription("A prompt with two arguments"),
		mcp.WithArgument("arg1", mcp.ArgumentDescription("The first argument"), mcp.RequiredArgument()),
		mcp.WithArgument("arg2", mcp.ArgumentDescription("The second argument"), mcp.RequiredArgument())),
		func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			args := req.Params.Arguments
			return prompt(mcp.NewTextContent(
				fmt.Sprintf("Prompt with arguments: arg1='%s', arg2='%s'", args["arg1"], args["arg2"]))), nil
		})
	srv.AddPrompt(mcp.NewPrompt("test_prompt_with_embedded_resource", mcp.WithPromptDescription("A prompt with a resource in it"),
		mcp.WithArgument("resourceUri", mcp.ArgumentDescription("The resource's URI"), mcp.RequiredArgument())),
		func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return prompt(
				embedded(req.Params.Arguments["resourceUri"], "text/plain", "Embedded resource content for testing."),
				mcp.NewTextContent("Please process the embedded resource above."),
			), nil
		})
	srv.AddPrompt(mcp.NewPrompt("test_prompt_with_image", mcp.WithPromptDescription("A prompt with an image in it")),
		func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return prompt(
				mcp.NewImageContent(onePixel, "image/png"),
				mcp.NewTextContent("Please analyze the image above."),
			), nil
		})
}

// prompt is a prompt whose messages are the user's.
func prompt(contents ...mcp.Content) *mcp.GetPromptResult {
	var result mcp.GetPromptResult
	for _, c := range contents {
		result.Messages = append(result.Messages, mcp.NewPromptMessage(mcp.RoleUser, c))
	}
	return &result
}
