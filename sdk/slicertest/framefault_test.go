package slicertest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// talk is a program that writes its arguments one by one, those that begin
// with ! to its error output.
func talk(_ context.Context, p *slicertest.Proc) int {
	for _, arg := range p.Args[1:] {
		to := p.Stdout
		if rest, ok := strings.CutPrefix(arg, "!"); ok {
			to, arg = p.Stderr, rest
		}
		if _, err := io.WriteString(to, arg); err != nil {
			return 1
		}
	}
	return 0
}

// post makes an exec call of talk and returns its answer, which the test's end
// closes.
func post(t *testing.T, srv *slicertest.Server, hostname string, args ...string) io.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/vm/"+hostname+"/exec?cmd=talk"+pct(args), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.HTTPClient().Do(req)
	if err != nil {
		t.Fatalf("exec = %v", err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp.Body
}

// pct is args as query parameters.
func pct(args []string) string {
	var b strings.Builder
	for _, arg := range args {
		b.WriteString("&args=")
		for _, c := range []byte(arg) {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// talker starts a server on a pipe, on which every write of the server's is a
// read of the client's.
func talker(t *testing.T, f slicertest.Fault) (srv *slicertest.Server, hostname string) {
	t.Helper()
	srv = slicertest.NewServer(t, slicertest.Options{
		Network:  slicertest.Pipe,
		Programs: map[string]slicertest.Program{"talk": talk},
	})
	hostname = vm(t, srv)
	srv.Fault("POST /vm/{vm}/exec", f)
	return srv, hostname
}

// told is what a stream's lines say: their types and payloads.
func told(t *testing.T, body io.Reader) (lines []string) {
	t.Helper()
	for scanner := bufio.NewScanner(body); scanner.Scan(); {
		var f struct{ Type, Stdout, Stderr string }
		if err := json.Unmarshal(scanner.Bytes(), &f); err != nil {
			lines = append(lines, "broken")
			continue
		}
		lines = append(lines, strings.TrimSpace(f.Type+" "+f.Stdout+f.Stderr))
	}
	return lines
}

func TestFrameFaults(t *testing.T) {
	ordinary := []string{"started", "stdout one", "stderr two", "stdout three", "exit"}
	for _, tt := range []struct {
		name  string
		fault slicertest.FrameFault
		want  []string
	}{
		{"none", slicertest.FrameFault{}, ordinary},
		{"split at odd offsets", slicertest.FrameFault{Split: 7}, ordinary},
		{"split to bytes", slicertest.FrameFault{Split: 1}, ordinary},
		{"merged in pairs", slicertest.FrameFault{Merge: 2}, ordinary},
		{"merged to one", slicertest.FrameFault{Merge: 1000}, ordinary},
		{"merged and split", slicertest.FrameFault{Merge: 3, Split: 11}, ordinary},
		{"exit before the last output", slicertest.FrameFault{ExitEarly: true}, []string{"started", "stdout one", "stderr two", "exit", "stdout three"}},
		{"malformed frame", slicertest.FrameFault{Malformed: 3}, []string{"started", "stdout one", "broken", "stdout three", "exit"}},
		{"malformed exit", slicertest.FrameFault{Malformed: 5}, []string{"started", "stdout one", "stderr two", "stdout three", "broken"}},
		{"no character to cut", slicertest.FrameFault{HalfCharacter: true}, ordinary},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, hostname := talker(t, slicertest.Fault{Frames: tt.fault})
			got := told(t, post(t, srv, hostname, "one", "!two", "three"))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExitEarlyWithoutOutput(t *testing.T) {
	srv, hostname := talker(t, slicertest.Fault{Frames: slicertest.FrameFault{ExitEarly: true}})
	if diff := cmp.Diff([]string{"started", "exit"}, told(t, post(t, srv, hostname))); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
}

func TestSplitAndMergedFramesArriveSo(t *testing.T) {
	sizes := func(f slicertest.FrameFault) (list []int) {
		srv, hostname := talker(t, slicertest.Fault{Frames: f})
		chunk := make([]byte, 64<<10)
		for body := post(t, srv, hostname, "one"); ; {
			n, err := body.Read(chunk)
			if n > 0 {
				list = append(list, n)
			}
			if err != nil {
				return list
			}
		}
	}
	split := sizes(slicertest.FrameFault{Split: 7})
	if len(split) < 10 {
		t.Errorf("split answer came in %d reads, want many", len(split))
	}
	for _, n := range split {
		if n > 7 {
			t.Errorf("split answer came as %v, want pieces of 7 bytes", split)
			break
		}
	}
	if merged := sizes(slicertest.FrameFault{Merge: 3}); len(merged) != 1 {
		t.Errorf("three merged frames came in reads of %v, want one", merged)
	}
}

func TestHalfCharacters(t *testing.T) {
	srv, hostname := talker(t, slicertest.Fault{Frames: slicertest.FrameFault{HalfCharacter: true}})
	text, err := io.ReadAll(post(t, srv, hostname, "say \"ä\"\n\\x\x01", "!€", "plain"))
	if err != nil {
		t.Fatalf("read = %v", err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) != 7 {
		t.Fatalf("answer = %q, want started, two halves, two halves, one frame and exit", lines)
	}
	for i, line := range lines {
		if want := i == 0 || i == 5 || i == 6; utf8.Valid(line) != want {
			t.Errorf("line %d %q: valid UTF-8 is %t, want %t", i, line, !want, want)
		}
		if !json.Valid(line) {
			t.Errorf("line %d %q is no JSON apart from its characters", i, line)
		}
	}
	if !bytes.Contains(lines[1], []byte("\"say \\\"\xc3\"")) || !bytes.Contains(lines[2], []byte("\"\xa4\\\"\\u000a\\\\x\\u0001\"")) {
		t.Errorf("halves = %q and %q, want ä cut in two", lines[1], lines[2])
	}
}

func TestLongLine(t *testing.T) {
	const size = 64 << 20
	srv, hostname := talker(t, slicertest.Fault{Frames: slicertest.FrameFault{LongLine: size}})
	body := bufio.NewReader(post(t, srv, hostname, "one"))
	var lengths []int
	for n := 0; ; {
		part, err := body.ReadSlice('\n')
		n += len(part)
		switch {
		case err == nil:
			lengths, n = append(lengths, n), 0
		case errors.Is(err, io.EOF):
			if len(lengths) != 4 || lengths[1] != size {
				t.Errorf("lines of %d bytes, want the second of four to have %d", lengths, size)
			}
			return
		case !errors.Is(err, bufio.ErrBufferFull):
			t.Fatalf("read = %v", err)
		}
	}
}

func TestFrameFaultsLeaveOtherAnswersAlone(t *testing.T) {
	srv, hostname := talker(t, slicertest.Fault{})
	srv.Fault("/", slicertest.Fault{Frames: slicertest.FrameFault{Malformed: 1, LongLine: 1 << 20, Merge: 9}})
	if err := srv.Files(hostname).WriteFile("/tmp/x", []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/vm/"+hostname+"/cp?path=/tmp/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); string(text) != "one\ntwo\n" || err != nil {
		t.Errorf("file = %q, %v, want it as it is", text, err)
	}
}

func TestAnswerThatIsCutAmongMangledFrames(t *testing.T) {
	srv, hostname := talker(t, slicertest.Fault{Frames: slicertest.FrameFault{Split: 3}, Cut: true, CutAfter: 10})
	if text, err := io.ReadAll(post(t, srv, hostname, "one")); len(text) != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("answer = %q, %v, want 10 bytes and an unexpected end", text, err)
	}
}

func TestAnswerThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		srv, hostname := talker(t, slicertest.Fault{Stall: release, StallAfter: 20})
		defer srv.Close()
		body := post(t, srv, hostname, "one")
		begun := make([]byte, 20)
		if _, err := io.ReadFull(body, begun); err != nil {
			t.Fatalf("read of what comes before the stall = %v", err)
		}
		rest := make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(body) // told finds what is missing
			rest <- string(text)
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case text := <-rest:
			t.Fatalf("the stalled answer went on with %q", text)
		default:
		}
		close(release)
		got := told(t, io.MultiReader(bytes.NewReader(begun), strings.NewReader(<-rest)))
		if diff := cmp.Diff([]string{"started", "stdout one", "exit"}, got); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
	})
}
