package slicertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// vm makes a VM and returns its hostname.
func vm(t *testing.T, srv *slicertest.Server) string {
	t.Helper()
	made, err := srv.Client().CreateVM(t.Context(), "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		t.Fatalf("CreateVM = %v", err)
	}
	return made.Hostname
}

// run runs a command as ubuntu and returns its output, error output, exit
// code and error.
func run(t *testing.T, srv *slicertest.Server, hostname string, req slicer.SlicerExecRequest, stdin io.Reader) string {
	t.Helper()
	req.UID, req.GID, req.Stdin = slicer.NonRootUser, slicer.NonRootUser, stdin != nil
	req.Stdout, req.Stderr = true, true
	results, err := srv.Client().ExecWithReader(t.Context(), hostname, req, stdin)
	if err != nil {
		t.Fatalf("Exec(%q) = %v", req.Command, err)
	}
	var out, errOut strings.Builder
	var last slicer.SlicerExecWriteResult
	for r := range results {
		out.WriteString(r.Stdout)
		errOut.WriteString(r.Stderr)
		last = r
	}
	return fmt.Sprintf("%q %q %d", out.String(), errOut.String(), last.ExitCode)
}

func TestEveryNetworkWorks(t *testing.T) {
	for name, network := range map[string]slicertest.Network{"tcp": slicertest.TCP, "unix": slicertest.Unix, "pipe": slicertest.Pipe} {
		t.Run(name, func(t *testing.T) {
			srv := slicertest.NewServer(t, slicertest.Options{Network: network, Token: "t0ken"})
			hostname := vm(t, srv)
			if got := run(t, srv, hostname, slicer.SlicerExecRequest{Command: "echo", Args: []string{"hi"}}, nil); got != `"hi\n" "" 0` {
				t.Errorf("echo = %s", got)
			}
			base := srv.URL
			if network == slicertest.Unix {
				base = "http://slicertest"
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/healthz", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := srv.HTTPClient().Do(req)
			if err != nil {
				t.Fatalf("GET /healthz = %v", err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("GET /healthz = %d, want 200", resp.StatusCode)
			}
			srv.Close()
			srv.Close()
			if _, err := srv.Client().ListVMs(t.Context()); err == nil {
				t.Error("ListVMs after Close = nil, want an error")
			}
		})
	}
}

func TestDefaultPrograms(t *testing.T) {
	srv := slicertest.NewServer(t)
	hostname := vm(t, srv)
	root := srv.Files(hostname)
	for name, text := range map[string]string{"/tmp/a": "A", "/tmp/script": "#!/bin/sh\necho from a script"} {
		if err := root.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatalf("WriteFile(%q) = %v", name, err)
		}
	}
	if err := root.WriteFile("/root/key", []byte("secret"), 0o600); err != nil {
		t.Fatalf("WriteFile = %v", err)
	}
	for _, tt := range []struct {
		command string
		args    []string
		stdin   string
		want    string
	}{
		{"true", nil, "", `"" "" 0`},
		{"false", nil, "", `"" "" 1`},
		{"/bin/echo", []string{"a", "b c"}, "", `"a b c\n" "" 0`},
		{"cat", nil, "input", `"input" "" 0`},
		{"cat", []string{"/tmp/a", "/tmp/a"}, "", `"AA" "" 0`},
		{"cat", []string{"/tmp/a", "/nope"}, "", `"A" "cat: open /nope: file does not exist\n" 1`},
		{"cat", []string{"/root/key"}, "", `"" "cat: open /root/key: permission denied\n" 1`},
		{"sleep", []string{"0"}, "", `"" "" 0`},
		{"sh", []string{"-c", "echo  from   a shell"}, "", `"from a shell\n" "" 0`},
		{"/bin/bash", []string{"-lc", "nope --now"}, "", `"" "nope: command not found\n" 127`},
		{"bash", []string{"/tmp/script"}, "", `"from a script\n" "" 0`},
		{"sh", nil, "echo from the input", `"from the input\n" "" 0`},
		{"/tmp/script", nil, "", `"from a script\n" "" 0`},
	} {
		var stdin io.Reader
		if tt.stdin != "" {
			stdin = strings.NewReader(tt.stdin)
		}
		got := run(t, srv, hostname, slicer.SlicerExecRequest{Command: tt.command, Args: tt.args}, stdin)
		if got != tt.want {
			t.Errorf("%s %q = %s, want %s", tt.command, tt.args, got, tt.want)
		}
	}
}

func TestShellAndProgramsOfOnesOwn(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{
		Programs: map[string]slicertest.Program{
			"make": func(_ context.Context, p *slicertest.Proc) int {
				if err := p.Files().WriteFile("out", []byte("built by "+p.Getenv("USER")), 0o644); err != nil {
					fmt.Fprintln(p.Stderr, err)
					return 2
				}
				return 0
			},
			"echo": func(_ context.Context, p *slicertest.Proc) int { fmt.Fprint(p.Stdout, "mine"); return 0 },
		},
		Shell: func(ctx context.Context, p *slicertest.Proc, script string) int {
			for command := range strings.SplitSeq(script, "&&") {
				if code := p.Run(ctx, strings.Fields(command)...); code != 0 {
					return code
				}
			}
			return 0
		},
	})
	hostname := vm(t, srv)
	got := run(t, srv, hostname, slicer.SlicerExecRequest{Command: "make && cat out && echo x && false && echo y", Shell: "/bin/bash"}, nil)
	if want := `"built by ubuntumine" "" 1`; got != want {
		t.Errorf("script = %s, want %s", got, want)
	}
	info, err := srv.Files(hostname).Stat("/home/ubuntu/out")
	if err != nil || info.Sys() != (slicertest.Owner{UID: 1000, GID: 1000}) {
		t.Errorf("Stat of the result = %v, %v, want it ubuntu's", info, err)
	}
}

func TestSleepUsesFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe})
		defer srv.Close()
		hostname := vm(t, srv)
		begin := time.Now()
		run(t, srv, hostname, slicer.SlicerExecRequest{Command: "sleep", Args: []string{"3600"}}, nil)
		if took := time.Since(begin); took != time.Hour {
			t.Errorf("sleep 3600 took %s, want an hour", took)
		}
	})
}

func TestJournal(t *testing.T) {
	srv := slicertest.NewServer(t, slicertest.Options{Token: "t0ken"})
	hostname := vm(t, srv)
	run(t, srv, hostname, slicer.SlicerExecRequest{Command: "true", Env: []string{"A=1"}}, nil)
	var got []string
	for _, r := range srv.Requests() {
		got = append(got, strings.TrimSpace(r.Method+" "+r.Path+" "+r.Query.Get("env")))
		if auth := r.Header.Get("Authorization"); auth != "" {
			t.Errorf("the journal has the token: %q", auth)
		}
	}
	if diff := cmp.Diff([]string{"POST /hostgroup/sbox/nodes", "POST /vm/sbox-1/exec A=1"}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := slicertest.NewServer(t, slicertest.Options{Network: slicertest.Pipe})
		defer srv.Close()
		hostname := vm(t, srv)
		get := func(ctx context.Context, path string) (int, string, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := srv.HTTPClient().Do(req)
			if err != nil {
				return 0, "", err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return resp.StatusCode, string(text), err
		}

		srv.Fault("GET /nodes", slicertest.Fault{Status: 502, Body: "<html>", Times: 2})
		for range 2 {
			if status, text, err := get(t.Context(), "/nodes"); status != 502 || text != "<html>" || err != nil {
				t.Errorf("with a status fault = %d %q %v, want 502 <html>", status, text, err)
			}
		}
		if status, _, err := get(t.Context(), "/nodes"); status != 200 || err != nil {
			t.Errorf("after two hits = %d %v, want 200", status, err)
		}

		srv.Fault("/info", slicertest.Fault{Delay: time.Hour})
		begin := time.Now()
		if status, _, err := get(t.Context(), "/info"); status != 200 || err != nil || time.Since(begin) != time.Hour {
			t.Errorf("with a delay = %d %v after %s, want 200 after an hour", status, err, time.Since(begin))
		}

		srv.Fault("GET /vm/{vm}/cp", slicertest.Fault{Cut: true, CutAfter: 3})
		status, text, err := get(t.Context(), "/vm/"+hostname+"/cp?path=/etc/hostname")
		if status != 200 || text != "sbo" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("with a cut = %d %q %v, want 200, 3 bytes and an unexpected end", status, text, err)
		}

		stall := make(chan struct{})
		srv.Fault("/hostgroup", slicertest.Fault{Stall: stall, Times: 1})
		ended := make(chan error, 1)
		go func() { _, _, err := get(t.Context(), "/hostgroup"); ended <- err }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("the stalled call ended with %v", err)
		default:
		}
		close(stall)
		if err := <-ended; err != nil {
			t.Errorf("the released call = %v", err)
		}

		srv.Fault("/secrets", slicertest.Fault{Stall: make(chan struct{})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := get(ctx, "/secrets"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stalled call with a deadline = %v, want it exceeded", err)
		}
	})
}

func TestCutExecEndsItsProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		srv := slicertest.NewServer(t, slicertest.Options{
			Network: slicertest.Pipe,
			Programs: map[string]slicertest.Program{"yes": func(ctx context.Context, p *slicertest.Proc) int {
				for ctx.Err() == nil {
					fmt.Fprintln(p.Stdout, "y")
				}
				ended <- context.Cause(ctx)
				return 0
			}},
		})
		defer srv.Close()
		hostname := vm(t, srv)
		srv.Fault("POST /vm/{vm}/exec", slicertest.Fault{Cut: true, CutAfter: 500})
		run(t, srv, hostname, slicer.SlicerExecRequest{Command: "yes"}, nil)
		if err := <-ended; !errors.Is(err, slicertest.Signal("KILL")) {
			t.Errorf("the program of the cut exec ended with %v, want KILL", err)
		}
	})
}

func TestFilesOfNoVM(t *testing.T) {
	srv := slicertest.NewServer(t)
	if got := srv.Files("sbox-1"); got != nil {
		t.Errorf("Files of no VM = %v, want nil", got)
	}
	srv.End("sbox-1") // nothing happens
	hostname := vm(t, srv)
	if _, err := srv.Files(hostname).ReadFile("/nope"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of nothing = %v, want ErrNotExist", err)
	}
}

func TestExample(t *testing.T) { buildInVM(t) }
