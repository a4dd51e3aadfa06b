package tools_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// What a command that prints 1 GiB may cost.
const (
	muchOutput         = 1 << 30
	someOutput         = 96 << 20 // where all of it goes through the server, which takes time
	manyDrops          = 300_000
	charactersPerToken = 4
	mostTokens         = 10_000
	mostPeak           = 64 << 20 // bytes of the server's resident memory
)

// noisy is a shell whose scripts are KIND and a number of bytes, such as "lines
// 1000". It prints so many: the same line over and over; one line without an
// end; or lines of one byte, each written by itself. The last line is THE END.
func noisy(ctx context.Context, p *slicertest.Proc, script string) int {
	const end = "\nTHE END\n"
	kind, number, _ := strings.Cut(script, " ")
	bytesInAll, err := strconv.Atoi(number)
	if err != nil {
		return 2
	}
	block := bytes.Repeat([]byte("a line of ordinary output, as compilers write, number 0123456789\n"), 512)
	switch kind {
	case "oneline":
		block = bytes.ReplaceAll(block, []byte("\n"), []byte(" "))
	case "drops":
		block = []byte("\n")
	}
	for left := bytesInAll - len(end); left > 0; left -= len(block) {
		if _, err := p.Stdout.Write(block[:min(left, len(block))]); err != nil || ctx.Err() != nil {
			return 1
		}
	}
	fmt.Fprint(p.Stdout, end)
	return 0
}

// outputServer is the program itself, over pipes.
type outputServer struct {
	wire
	pid int
}

// builtServer builds the program.
func builtServer(tb testing.TB) string {
	tb.Helper()
	binary := filepath.Join(tb.TempDir(), "slicervm-mcp")
	if out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", binary, "..").CombinedOutput(); err != nil {
		tb.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// startServer starts the program, which ends with its input.
func startServer(tb testing.TB, binary string, args ...string) *outputServer {
	tb.Helper()
	home := tb.TempDir()
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), binary, args...)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	var log safeBuffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out) // to its end
		if err := cmd.Wait(); err != nil {
			tb.Errorf("the server: %v\n%s", err, log.String())
		}
	})
	s := &outputServer{wire{t: tb, in: in, out: json.NewDecoder(out), got: &bytes.Buffer{}}, cmd.Process.Pid}
	s.send(map[string]any{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": map[string]any{
		"protocolVersion": "2025-06-18", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "test", "version": "1"},
	}})
	s.answer()
	return s
}

// text calls a tool that is to succeed, and returns its answer's text.
func (s *outputServer) text(tool string, a args) string {
	s.t.Helper()
	raw := s.call(tool, a)
	var res struct {
		IsError bool
		Content []struct{ Text string }
	}
	if err := json.Unmarshal([]byte(raw), &res); err != nil || res.IsError || len(res.Content) != 1 {
		s.t.Fatalf("%s = %.1000s, %v; want a text", tool, raw, err)
	}
	return res.Content[0].Text
}

// peak is the most memory that the server has had, in bytes.
func (s *outputServer) peak() int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		s.t.Fatalf("VmHWM in %s: %v", status, err)
	}
	return kib << 10
}

// outputCost is what a command that prints much costs.
type outputCost struct {
	characters, tokens int
	peak               int64
}

// cost runs a command that prints much to its end, and says what the dearest
// answer and the server's memory came to. On a machine that is too slow for one
// call it reads on.
func (s *outputServer) cost(input args) (cost outputCost, answer string) {
	s.t.Helper()
	answer = s.text("exec", input)
	cost.characters = utf8.RuneCountInString(answer)
	for strings.HasPrefix(answer, "still running") {
		answer = s.text("read_process", nextCall(s.t, answer))
		cost.characters = max(cost.characters, utf8.RuneCountInString(answer))
	}
	cost.tokens = (cost.characters + charactersPerToken - 1) / charactersPerToken
	cost.peak = s.peak()
	return cost, answer
}

// TestMuchOutputCostsLittle is about a command that prints 1 GiB: what a model
// reads of it, and what memory the program takes, with a daemon of the tests.
func TestMuchOutputCostsLittle(t *testing.T) {
	binary := builtServer(t)
	srv := slicertest.NewServer(t, slicertest.Options{Shell: launched(noisy)})
	for _, tc := range []struct {
		name  string
		bytes int
		input args
	}{
		{"lines, in the background of the daemon", muchOutput, args{"command": "lines"}},
		{"one line, in the background of the daemon", muchOutput, args{"command": "oneline"}},
		{"lines, over the server's own stream", someOutput, args{"command": "lines", "stdin": "x"}},
		{"one line, over the server's own stream", someOutput, args{"command": "oneline", "stdin": "x"}},
		{"byte by byte, over the server's own stream", manyDrops, args{"command": "drops", "stdin": "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := startServer(t, binary, "--url", srv.URL)
			vm := "vm" + strconv.Itoa(s.pid)
			s.text("create_vm", args{"name": vm})
			tc.input["command"] = fmt.Sprintf("%s %d", tc.input["command"], tc.bytes)
			tc.input["vm"], tc.input["yield_seconds"] = vm, 50
			cost, answer := s.cost(tc.input)
			wantText(t, "exec", answer, "exit 0 in ", "THE END")
			t.Logf("%d characters, %d tokens, %.1f MiB at the most", cost.characters, cost.tokens, mebibytes(cost.peak))
			if cost.tokens > mostTokens {
				t.Errorf("the answer has %d tokens, want at most %d", cost.tokens, mostTokens)
			}
			if cost.peak > mostPeak {
				t.Errorf("the server had %.1f MiB of memory, want at most %.1f", mebibytes(cost.peak), mebibytes(mostPeak))
			}
		})
	}
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// BenchmarkOutput prints what 1 GiB of output costs: of text that a model reads,
// and of the program's memory.
func BenchmarkOutput(b *testing.B) {
	binary := builtServer(b)
	srv := slicertest.NewServer(b, slicertest.Options{Shell: launched(noisy)})
	command := fmt.Sprintf("lines %d", muchOutput)
	yes := fmt.Sprintf("yes 'a line of ordinary output, as compilers write' | head -c %d; echo THE END", muchOutput)
	for _, bc := range []struct {
		name   string
		server []string
		input  args
	}{
		{"background", []string{"--url", srv.URL}, args{"command": command}},
		{"stream", []string{"--url", srv.URL}, args{"command": command, "stdin": "x"}},
		{"embedded", []string{"--embedded"}, args{"command": yes}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.SetBytes(muchOutput)
			var most outputCost
			for b.Loop() {
				s := startServer(b, binary, bc.server...)
				vm := "vm" + strconv.Itoa(s.pid)
				s.text("create_vm", args{"name": vm})
				bc.input["vm"], bc.input["yield_seconds"] = vm, 50
				cost, answer := s.cost(bc.input)
				wantText(b, "exec", answer, "exit 0 in ", "THE END")
				most.characters, most.tokens, most.peak = max(most.characters, cost.characters), max(most.tokens, cost.tokens), max(most.peak, cost.peak)
				s.text("delete_vm", args{"vm": vm})
			}
			b.ReportMetric(float64(most.characters), "chars/answer")
			b.ReportMetric(float64(most.tokens), "tokens/answer")
			b.ReportMetric(mebibytes(most.peak), "peak-MiB")
		})
	}
}
