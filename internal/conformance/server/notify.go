package main

import (
	"context"
	"fmt"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// addNotifyingTools adds the tools that send notifications.
func addNotifyingTools(srv *server.MCPServer) {
	n := notifier{srv}
	srv.AddTool(mcp.NewTool("test_tool_with_progress", mcp.WithDescription("Sends its progress")), n.progress)
	for _, name := range []string{"test_tool_with_logging", "test_logging_tool"} {
		srv.AddTool(mcp.NewTool(name, mcp.WithDescription("Sends log messages")), n.log)
	}
	srv.AddTool(mcp.NewTool("test_trigger_tool_change", mcp.WithDescription("Changes the list of tools")), n.changeTools)
	srv.AddTool(mcp.NewTool("test_trigger_prompt_change", mcp.WithDescription("Changes the list of prompts")), n.changePrompts)
}

type notifier struct{ srv *server.MCPServer }

func (n notifier) progress(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if req.Params.Meta == nil || req.Params.Meta.ProgressToken == nil {
		return mcp.NewToolResultText("nobody asked for progress"), nil
	}
	for _, at := range []int{0, 50, 100} {
		err := n.srv.SendNotificationToClient(ctx, string(mcp.MethodNotificationProgress), map[string]any{
			"progressToken": req.Params.Meta.ProgressToken,
			"progress":      at,
			"total":         100,
		})
		if err != nil {
			return nil, fmt.Errorf("send progress: %w", err)
		}
	}
	return mcp.NewToolResultText("sent progress"), nil
}

func (n notifier) log(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for _, message := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
		err := n.srv.SendLogMessageToClient(ctx, mcp.NewLoggingMessageNotification(mcp.LoggingLevelInfo, "fixtures", message))
		if err != nil {
			return nil, fmt.Errorf("send log message: %w", err)
		}
	}
	return mcp.NewToolResultText("sent log messages"), nil
}

// changeTools adds a tool and takes it away again, so that a client is told
// and the next scenario finds the list as it was.
func (n notifier) changeTools(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	const name = "test_passing_tool"
	n.srv.AddTool(mcp.NewTool(name, mcp.WithDescription("Is here for a moment")),
		func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("still here"), nil
		})
	n.srv.DeleteTools(name)
	return mcp.NewToolResultText("changed"), nil
}

// changePrompts does to the prompts what changeTools does to the tools.
func (n notifier) changePrompts(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	const name = "test_passing_prompt"
	n.srv.AddPrompt(mcp.NewPrompt(name, mcp.WithPromptDescription("Is here for a moment")),
		func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return prompt(mcp.NewTextContent("still here")), nil
		})
	n.srv.DeletePrompts(name)
	return mcp.NewToolResultText("changed"), nil
}
