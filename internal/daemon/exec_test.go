package daemon_test

import (
	"bufio"
	"context"
	"encoding/base64"
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

// show is a program that prints how it was started.
func show(_ context.Context, p *slicertest.Proc) int {
	input, err := io.ReadAll(p.Stdin)
	if err != nil {
		return 99
	}
	fmt.Fprintf(p.Stdout, "%q %d:%d %s A=%s HOME=%s in=%q", p.Args, p.UID, p.GID, p.Dir, p.Getenv("A"), p.Getenv("HOME"), input)
	return 0
}

func TestExecTakesItsParameters(t *testing.T) {
	a := newAPI(t, slicertest.Options{
		Programs: map[string]slicertest.Program{"show": show, "bash": show},
	})
	vm := a.create(`{}`)
	for _, tt := range []struct {
		name   string
		params []string
		body   string
		want   string
	}{
		{"the ordinary user", nil, "", `["show"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in=""`},
		{"arguments", []string{"args", "a b", "args", "", "args", "*"}, "", `["show" "a b" "" "*"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in=""`},
		{"environment", []string{"env", "A=1", "env", "A=b=c"}, "", `["show"] 1000:1000 /home/ubuntu A=b=c HOME=/home/ubuntu in=""`},
		{"root", []string{"uid", "0"}, "", `["show"] 0:0 /root A= HOME=/root in=""`},
		{"user and group", []string{"uid", "1001", "gid", "7"}, "", `["show"] 1001:7 / A= HOME=/ in=""`},
		{"the ids of nobody in particular", []string{"uid", "4294967295", "gid", "4294967295"}, "", `["show"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in=""`},
		{"folder", []string{"cwd", "/tmp"}, "", `["show"] 1000:1000 /tmp A= HOME=/home/ubuntu in=""`},
		{"home folder", []string{"cwd", "~"}, "", `["show"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in=""`},
		{"shell", []string{"shell", "/bin/bash", "args", "$A", "args", "b"}, "", `["/bin/bash" "-lc" "show $A b"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in=""`},
		{"input", []string{"stdin", "true"}, "some\ninput", `["show"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in="some\ninput"`},
		{"a body that is no input", nil, "some\ninput", `["show"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in=""`},
		{"permissions are ignored", []string{"permissions", "0644"}, "", `["show"] 1000:1000 /home/ubuntu A= HOME=/home/ubuntu in=""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := execPath(vm, append([]string{"cmd", "show"}, tt.params...)...)
			got := frames(t, a.want(200, "POST", path, tt.body).body)
			if len(got) != 3 || got[1].Stdout != tt.want {
				t.Errorf("POST %s = %+v, want output %s", path, got, tt.want)
			}
		})
	}
}

func TestExecFrames(t *testing.T) {
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"both": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprint(p.Stdout, "<out>")
			fmt.Fprint(p.Stderr, "err\n")
			return 42
		},
	}})
	vm := a.create(`{}`)
	reply := a.want(200, "POST", execPath(vm, "cmd", "both"), "")
	if got := reply.header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type = %s, want application/x-ndjson", got)
	}
	got := frames(t, reply.body)
	if len(got) != 4 {
		t.Fatalf("frames = %s, want four", reply.body)
	}
	if got[0].Type != "started" || got[0].PID <= 0 || got[0].StartedAt == "" || got[0].ExitCode != nil {
		t.Errorf("first frame = %+v, want started with pid and time, without an exit code", got[0])
	}
	if got[1].Type != "stdout" || got[1].Stdout != "<out>" || got[1].Encoding != "" {
		t.Errorf("second frame = %+v, want stdout", got[1])
	}
	if got[2].Type != "stderr" || got[2].Stderr != "err\n" {
		t.Errorf("third frame = %+v, want stderr", got[2])
	}
	if got[3].Type != "exit" || *got[3].ExitCode != 42 || got[3].Error != "exit status 42" || got[3].EndedAt == "" || got[3].Signal != nil {
		t.Errorf("last frame = %+v, want exit 42", got[3])
	}
	if !strings.Contains(reply.body, `"<out>"`) {
		t.Errorf("answer %s escapes HTML", reply.body)
	}

	for _, tt := range []struct {
		stream string
		want   []string
	}{
		{"stdout", []string{"started", "stderr", "exit"}},
		{"stderr", []string{"started", "stdout", "exit"}},
	} {
		var types []string
		for _, f := range frames(t, a.want(200, "POST", execPath(vm, "cmd", "both", tt.stream, "false"), "").body) {
			types = append(types, f.Type)
		}
		if !cmp.Equal(types, tt.want) {
			t.Errorf("frames with %s=false = %v, want %v", tt.stream, types, tt.want)
		}
	}

	zero := frames(t, a.want(200, "POST", execPath(vm, "cmd", "true"), "").body)
	if last := zero[len(zero)-1]; last.ExitCode == nil || *last.ExitCode != 0 || last.Error != "" {
		t.Errorf("last frame of true = %+v, want exit code 0 and no error", last)
	}
}

func TestExecThatCannotStart(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	a.want(200, "POST", "/vm/"+vm+"/cp?path=/tmp/plain&permissions=0644", "#!/bin/sh\n")
	for _, tt := range []struct {
		name   string
		params []string
		code   int
	}{
		{"no such program", []string{"cmd", "nope"}, 127},
		{"no such file", []string{"cmd", "/opt/nope"}, 127},
		{"no such folder", []string{"cmd", "true", "cwd", "/nope"}, 127},
		{"not executable", []string{"cmd", "/tmp/plain"}, 126},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := frames(t, a.want(200, "POST", execPath(vm, tt.params...), "").body)
			if len(got) != 1 || got[0].Type != "exit" || *got[0].ExitCode != tt.code || got[0].Error == "" {
				t.Errorf("exec %q = %+v, want only an exit frame with %d and an error", tt.params, got, tt.code)
			}
			var buffered struct {
				ExitCode int `json:"exit_code"`
				Error    string
			}
			decode(t, a.want(200, "POST", execPath(vm, append(tt.params, "buffered", "true")...), "").body, &buffered)
			if buffered.ExitCode != tt.code || buffered.Error == "" {
				t.Errorf("buffered exec %q = %+v, want %d and an error", tt.params, buffered, tt.code)
			}
		})
	}
}

// pieces is a program that writes its arguments, base64, one by one.
func pieces(_ context.Context, p *slicertest.Proc) int {
	for _, arg := range p.Args[1:] {
		piece, err := base64.StdEncoding.DecodeString(arg)
		if err != nil {
			return 2
		}
		if _, err := p.Stdout.Write(piece); err != nil {
			return 3
		}
	}
	return 0
}

func TestExecTextIsNeverCutInsideACharacter(t *testing.T) {
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{"pieces": pieces}})
	vm := a.create(`{}`)
	for _, tt := range []struct {
		name   string
		writes []string
		want   []string // payloads
	}{
		{"two bytes in two writes", []string{"a\xc3", "\xa4b"}, []string{"a", "äb"}},
		{"four bytes in four writes", []string{"\xf0", "\x9f", "\x98", "\x80"}, []string{"😀"}},
		{"an invalid byte goes at once", []string{"a\xff", "b"}, []string{"a\ufffd", "b"}},
		{"a begun character at the end", []string{"a\xe2\x82"}, []string{"a", "\ufffd\ufffd"}},
		{"a begun character that isn't finished", []string{"\xe2\x82", "x"}, []string{"\ufffd\ufffdx"}},
		{"only continuation bytes", []string{"\x80\x80\x80\x80"}, []string{"\ufffd\ufffd\ufffd\ufffd"}},
		{"an empty write", []string{"", "a"}, []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			params := []string{"cmd", "pieces"}
			for _, w := range tt.writes {
				params = append(params, "args", base64.StdEncoding.EncodeToString([]byte(w)))
			}
			var got []string
			for _, f := range frames(t, a.want(200, "POST", execPath(vm, params...), "").body) {
				if f.Type == "stdout" {
					got = append(got, f.Stdout)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("frames of the writes %q (-want +got):\n%s", tt.writes, diff)
			}
			var raw []byte
			for _, f := range frames(t, a.want(200, "POST", execPath(vm, append(params, "stdio", "base64")...), "").body) {
				if f.Type != "stdout" {
					continue
				}
				if f.Encoding != "base64" {
					t.Errorf("frame %+v has no encoding", f)
				}
				part, err := base64.StdEncoding.DecodeString(f.Stdout)
				if err != nil {
					t.Errorf("frame %+v is no base64: %v", f, err)
				}
				raw = append(raw, part...)
			}
			if want := strings.Join(tt.writes, ""); string(raw) != want {
				t.Errorf("base64 output = %q, want %q", raw, want)
			}
		})
	}
}

func TestExecFramesAreBounded(t *testing.T) {
	output := strings.Repeat("aäb😀", 20_000) // 160,000 bytes in one write
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"much": func(_ context.Context, p *slicertest.Proc) int { fmt.Fprint(p.Stdout, output); return 0 },
	}})
	vm := a.create(`{}`)
	var got strings.Builder
	for _, f := range frames(t, a.want(200, "POST", execPath(vm, "cmd", "much"), "").body) {
		if len(f.Stdout) > 32<<10 || !utf8.ValidString(f.Stdout) || strings.ContainsRune(f.Stdout, utf8.RuneError) {
			t.Errorf("frame of %d bytes, want at most 32 KiB of whole characters", len(f.Stdout))
		}
		got.WriteString(f.Stdout)
	}
	if got.String() != output {
		t.Errorf("output of %d bytes came as %d bytes or changed", len(output), got.Len())
	}
}

func TestExecIsFullDuplex(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	body := newFeed()
	resp, err := a.srv.HTTPClient().Do(a.request(t.Context(), "POST", execPath(vm, "cmd", "cat", "stdin", "true"), body))
	if err != nil {
		t.Fatalf("exec = %v", err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() (f frame) {
		if !lines.Scan() {
			t.Fatalf("the answer ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Fatalf("frame %q: %v", lines.Text(), err)
		}
		return f
	}
	if got := next(); got.Type != "started" {
		t.Fatalf("first frame = %+v, want started before any input", got)
	}
	for _, word := range []string{"one", "two", "three"} {
		body.send(word)
		if got := next(); got.Stdout != word {
			t.Fatalf("frame after sending %q = %+v", word, got)
		}
	}
	body.end()
	if got := next(); got.Type != "exit" || *got.ExitCode != 0 {
		t.Errorf("last frame = %+v, want exit 0", got)
	}
}

func TestExecInputThatIsNotReadHoldsNothingUp(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	t.Run("input stays open", func(t *testing.T) {
		body := newFeed()
		defer body.end()
		got := frames(t, a.send(a.request(t.Context(), "POST", execPath(vm, "cmd", "true", "stdin", "true"), body)).body)
		if last := got[len(got)-1]; last.Type != "exit" || *last.ExitCode != 0 {
			t.Errorf("last frame = %+v, want exit 0", last)
		}
	})
	t.Run("much input", func(t *testing.T) {
		// The client may see the connection end before it has sent all.
		resp, err := a.srv.HTTPClient().Do(a.request(t.Context(), "POST", execPath(vm, "cmd", "true", "stdin", "true"),
			strings.NewReader(strings.Repeat("x", 4<<20))))
		if err != nil {
			t.Fatalf("exec = %v", err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(text), `"type":"exit"`) {
			t.Errorf("answer = %q, %v, want it whole", text, err)
		}
	})
}

func TestExecInputLargerThanIsReadAhead(t *testing.T) {
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"count": func(_ context.Context, p *slicertest.Proc) int {
			n, err := io.Copy(io.Discard, p.Stdin)
			fmt.Fprint(p.Stdout, n, " ", err)
			return 0
		},
	}})
	vm := a.create(`{}`)
	got := frames(t, a.want(200, "POST", execPath(vm, "cmd", "count", "stdin", "true"), strings.Repeat("x", 3<<20)).body)
	if got[1].Stdout != "3145728 <nil>" {
		t.Errorf("count of 3 MiB = %+v, want all of it", got[1])
	}
}

func TestExecEndsWithItsClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params []string
		body   bool
	}{
		{"streaming", nil, false},
		{"with open input", []string{"stdin", "true"}, true},
		{"buffered", []string{"buffered", "true"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 1)
				a := newAPI(t, slicertest.Options{
					Network: slicertest.Pipe,
					Programs: map[string]slicertest.Program{"hang": func(ctx context.Context, _ *slicertest.Proc) int {
						<-ctx.Done()
						ended <- context.Cause(ctx)
						return 0
					}},
				})
				defer a.srv.Close()
				vm := a.create(`{}`)
				var body io.Reader
				input := newFeed()
				defer input.end()
				if tt.body {
					body = input
				}
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					resp, err := a.srv.HTTPClient().Do(a.request(ctx, "POST", execPath(vm, append([]string{"cmd", "hang"}, tt.params...)...), body))
					if err == nil {
						_, _ = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
				}()
				if tt.body {
					input.send("unread")
				}
				synctest.Wait()
				cancel()
				synctest.Wait()
				select {
				case got := <-ended:
					if !errors.Is(got, slicertest.Signal("KILL")) {
						t.Errorf("the program ended with %v, want KILL", got)
					}
				default:
					t.Error("the program runs on after its client went away")
				}
			})
		})
	}
}

func TestExecOnPausedVMIsKilledWhenItIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, slicertest.Options{Network: slicertest.Pipe})
		defer a.srv.Close()
		vm := a.create(`{}`)
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := a.srv.HTTPClient().Do(a.request(ctx, "POST", execPath(vm, "cmd", "sleep", "args", "1e6"), nil))
		if err != nil {
			t.Fatalf("exec = %v", err)
		}
		defer resp.Body.Close()
		a.want(200, "POST", "/vm/"+vm+"/pause", "")
		cancel()
		time.Sleep(time.Minute)
		a.want(200, "POST", "/vm/"+vm+"/resume", "")
		begin := time.Now()
		a.srv.Close() // waits for the call to end
		if took := time.Since(begin); took > time.Second {
			t.Errorf("Close took %s, want the process to be gone by then", took)
		}
	})
}

func TestExecBuffered(t *testing.T) {
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"both": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprint(p.Stdout, "out")
			fmt.Fprint(p.Stderr, "err\xff")
			return 7
		},
		"flood": func(_ context.Context, p *slicertest.Proc) int {
			chunk := strings.Repeat("x", 1<<20)
			for range 17 {
				if _, err := io.WriteString(p.Stdout, chunk); err != nil {
					return 1
				}
			}
			return 0
		},
	}})
	vm := a.create(`{}`)
	for encoding, want := range map[string]map[string]any{
		"text":   {"stdout": "out", "stderr": "err\ufffd", "exit_code": 7.0, "error": "exit status 7"},
		"base64": {"stdout": "b3V0", "stderr": "ZXJy/w==", "exit_code": 7.0, "error": "exit status 7", "encoding": "base64"},
	} {
		var got map[string]any
		decode(t, a.want(200, "POST", execPath(vm, "cmd", "both", "buffered", "true", "stdio", encoding), "").body, &got)
		for _, name := range []string{"pid", "started_at", "ended_at"} {
			if got[name] == nil {
				t.Errorf("buffered answer %v has no %s", got, name)
			}
			delete(got, name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("buffered exec as %s (-want +got):\n%s", encoding, diff)
		}
	}

	var got struct{ Stdout, Error string }
	decode(t, a.want(200, "POST", execPath(vm, "cmd", "flood", "buffered", "true"), "").body, &got)
	if len(got.Stdout) != 16<<20 || !strings.Contains(got.Error, "stdout was cut: 1048576 bytes") {
		t.Errorf("17 MiB buffered = %d bytes, error %q, want 16 MiB and what is missing", len(got.Stdout), got.Error)
	}
}

func TestExecKeepsTheConnectionForTheNextCall(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	for _, stdin := range []string{"false", "true"} {
		for range 3 {
			got := frames(t, a.want(200, "POST", execPath(vm, "cmd", "echo", "args", "hi", "stdin", stdin), "input").body)
			if len(got) != 3 || got[1].Stdout != "hi\n" {
				t.Errorf("echo with stdin=%s = %+v", stdin, got)
			}
			a.want(http.StatusOK, "GET", "/healthz", "")
		}
	}
}
