package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// session is a server at the other end of a pipe.
type session struct {
	client  *client.Client
	server  *exec.Cmd
	stdin   io.Closer
	started time.Time
}

// connect starts the server and introduces itself.
func connect(ctx context.Context, server string, flags ...string) (*session, error) {
	started := time.Now()
	fmt.Printf("$ %s %s\n", server, strings.Join(flags, " "))
	//nolint:noctx // the server is told to end by the end of its input
	cmd := exec.Command(server, flags...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	s := &session{server: cmd, stdin: in, started: started}
	s.client = client.NewClient(transport.NewIO(out, in, io.NopCloser(strings.NewReader(""))))
	if err := s.client.Start(ctx); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	hello := mcp.InitializeRequest{}
	hello.Params.ProtocolVersion = mcp.LATEST_PROTOCOL_VERSION
	hello.Params.ClientInfo = mcp.Implementation{Name: "slicervm-mcp-tour", Version: "1"}
	answer, err := s.client.Initialize(ctx, hello)
	if err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	fmt.Printf("· connected to %s %s in %s\n", answer.ServerInfo.Name, answer.ServerInfo.Version, since(started))
	return s, nil
}

// close ends the server's input and waits for its exit.
func (s *session) close() error {
	began := time.Now()
	if err := s.stdin.Close(); err != nil {
		return fmt.Errorf("end the server's input: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- s.server.Wait() }()
	select {
	case err := <-exited:
		if err != nil {
			return fmt.Errorf("the server's exit: %w", err)
		}
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("the server didn't exit within 20 s of its input's end"), s.server.Process.Kill())
	}
	fmt.Printf("\n· the server took %s to exit, %s in all\n", since(began), since(s.started))
	return nil
}

type args map[string]any

// step is one call and what its answer must be.
type step struct {
	say  string
	tool string
	args args
	want func(text string, refused bool) error
}

// take makes a step's call, prints both sides and checks the answer.
func (s *session) take(ctx context.Context, st step) error {
	if st.say != "" {
		fmt.Printf("\n# %s\n", st.say)
	}
	var sent strings.Builder
	enc := json.NewEncoder(&sent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(st.args); err != nil {
		return err
	}
	fmt.Printf("→ %s %s", st.tool, sent.String())
	began := time.Now()
	req := mcp.CallToolRequest{}
	req.Params.Name = st.tool
	req.Params.Arguments = map[string]any(st.args)
	result, err := s.client.CallTool(ctx, req)
	if err != nil {
		return fmt.Errorf("%s: %w", st.tool, err)
	}
	var text strings.Builder
	for _, c := range result.Content {
		if t, ok := c.(mcp.TextContent); ok {
			text.WriteString(t.Text)
		}
	}
	mark := "←"
	if result.IsError {
		mark = "✗"
	}
	fmt.Printf("%s (%s) %s\n", mark, since(began), strings.ReplaceAll(strings.TrimRight(text.String(), "\n"), "\n", "\n  "))
	if err := st.want(text.String(), result.IsError); err != nil {
		return fmt.Errorf("%s: %w", st.tool, err)
	}
	return nil
}

func since(t time.Time) string {
	return fmt.Sprintf("%.3f s", time.Since(t).Seconds())
}

// contains wants a success that has every part.
func contains(parts ...string) func(string, bool) error {
	return func(text string, isError bool) error {
		if isError {
			return fmt.Errorf("refused, want success")
		}
		return hasAll(text, parts)
	}
}

// refused wants a tool error that has every part.
func refused(parts ...string) func(string, bool) error {
	return func(text string, isError bool) error {
		if !isError {
			return fmt.Errorf("succeeded, want a refusal")
		}
		return hasAll(text, parts)
	}
}

func hasAll(text string, parts []string) error {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return fmt.Errorf("the answer lacks %q", p)
		}
	}
	return nil
}

// lacks wants a success without any of parts.
func lacks(parts ...string) func(string, bool) error {
	return func(text string, isError bool) error {
		if isError {
			return fmt.Errorf("refused, want success")
		}
		for _, p := range parts {
			if strings.Contains(text, p) {
				return fmt.Errorf("the answer has %q", p)
			}
		}
		return nil
	}
}

func all(checks ...func(string, bool) error) func(string, bool) error {
	return func(text string, isError bool) error {
		for _, check := range checks {
			if err := check(text, isError); err != nil {
				return err
			}
		}
		return nil
	}
}

// digest is what sha256sum prints of text.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
