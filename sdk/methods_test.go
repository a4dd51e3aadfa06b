package slicer_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// recorder is a daemon that refuses everything and remembers what it was asked.
type recorder struct {
	mu    sync.Mutex
	lines []string // method and path, as they came
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path, _, _ := strings.Cut(req.RequestURI, "?")
	r.mu.Lock()
	r.lines = append(r.lines, req.Method+" "+path)
	r.mu.Unlock()
	_, _ = io.Copy(io.Discard, req.Body)
	w.WriteHeader(http.StatusTeapot)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

func TestNamesReachNoOtherRoute(t *testing.T) {
	hostile := []string{
		"../hostgroup/g/nodes/vm", "a/b?c#d", "%2f", "%2F..%2f", "..%2Fsecrets", "a\nb", "", ".", "..", "../", "/", "//",
		"a//b", "a/", `a\b`, `..\secrets`, "a;b", "a b", "a+b", "é", "*", "~", ":", "@", "a%00b", "a\x00b", "\xff",
		"?path=/etc/passwd", "vm-1 HTTP/1.1\r\nX-Evil: 1\r\n\r\n", strings.Repeat("a", 4096),
	}
	daemon := &recorder{}
	server := httptest.NewServer(daemon)
	defer server.Close()
	client := slicer.NewSlicerClient(server.URL+"/prefix", "", "", nil)
	defer client.CloseIdleConnections()

	for name, m := range clientMethods(t) {
		t.Run(name, func(t *testing.T) {
			if err := m.do(t.Context(), client, m.names); !slicer.IsAPIStatus(err, http.StatusTeapot) {
				t.Fatalf("with harmless names = %v, want the status 418", err)
			}
			plain := daemon.take()
			if len(plain) != 1 || !strings.Contains(plain[0], " /prefix/") {
				t.Fatalf("sent %q, want one request below /prefix/", plain)
			}
			want := strings.Split(plain[0], "/")
			for i := range m.names {
				at := slices.Index(want, url.PathEscape(m.names[i]))
				if at < 0 {
					t.Fatalf("sent %q, which doesn't hold the name %q", plain[0], m.names[i])
				}
				for _, evil := range hostile {
					if evil == "" && m.emptyMay {
						continue
					}
					names := slices.Clone(m.names)
					names[i] = evil
					err := m.do(t.Context(), client, names)
					sent := daemon.take()
					if err == nil {
						t.Errorf("name %d = %.50q: no error", i, evil)
					}
					if len(sent) == 0 {
						continue // refused
					}
					if len(sent) > 1 {
						t.Errorf("name %d = %.50q: sent %q, want one request", i, evil, sent)
					}
					got := strings.Split(sent[0], "/")
					if len(got) != len(want) {
						t.Errorf("name %d = %.50q: sent %.200q, want the route of %q", i, evil, sent[0], plain[0])
						continue
					}
					segment, err := url.PathUnescape(got[at])
					if err != nil || segment != evil || segment == "" || segment == "." || segment == ".." {
						t.Errorf("name %d = %.50q: came as %.50q, %v", i, evil, segment, err)
					}
					got[at] = want[at]
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("name %d = %.50q reached another route (-want +got):\n%s", i, evil, diff)
					}
				}
			}
		})
	}
}

func TestCommitsIsNoVM(t *testing.T) {
	daemon := &recorder{}
	client := serve(t, daemon.ServeHTTP)
	if _, err := client.DescribeVM(t.Context(), "commits"); err == nil || slicer.IsAPIStatus(err, http.StatusTeapot) {
		t.Errorf("DescribeVM(commits) = %v, want an error of the client's own", err)
	}
	if sent := daemon.take(); len(sent) > 0 {
		t.Errorf("DescribeVM(commits) sent %q, which lists commits", sent)
	}
}

func TestEveryMethodReportsFailures(t *testing.T) {
	const page = "<!DOCTYPE html><html><body>Sign in to the network</body></html>"
	for _, tt := range []struct {
		name  string
		serve http.HandlerFunc
		fails func(answerKind) bool
		check func(error) bool
	}{
		{
			"an HTML page for a refusal", answer(http.StatusBadGateway, "text/html", page),
			func(answerKind) bool { return true },
			func(err error) bool {
				return slicer.IsAPIStatus(err, http.StatusBadGateway) && !strings.Contains(err.Error(), "Sign in")
			},
		},
		{
			"an HTML page for an answer", answer(http.StatusOK, "text/html", page),
			func(kind answerKind) bool { return kind != wantsFile },
			func(err error) bool { return !strings.Contains(err.Error(), "Sign in") },
		},
		{
			"a cut answer",
			func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write([]byte(`[{"name":"`))
			},
			func(answerKind) bool { return true }, nil,
		},
		{
			"malformed JSON", answer(http.StatusOK, "application/json", `{"a":]`),
			func(kind answerKind) bool { return kind == wantsJSON }, nil,
		},
		{
			"an empty answer", answer(http.StatusOK, "application/json", ""),
			func(kind answerKind) bool { return kind == wantsJSON }, nil,
		},
		{
			"a closed connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			func(answerKind) bool { return true }, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client := serve(t, tt.serve)
			for name, m := range clientMethods(t) {
				if !tt.fails(m.kind) || mayAnswerNothing(name) && tt.name == "an empty answer" {
					continue
				}
				err := m.do(t.Context(), client, m.names)
				if err == nil {
					t.Errorf("%s = nil, want an error", name)
				} else if tt.check != nil && !tt.check(err) {
					t.Errorf("%s = %v, which isn't the error that fits", name, err)
				}
			}
		})
	}
}

// mayAnswerNothing reports whether a daemon may leave out the answer of a method.
func mayAnswerNothing(name string) bool {
	return slices.Contains([]string{"DeleteVM", "DeleteNode", "ExecLogs", "ExecLogsSeq", "ExecDelete"}, name)
}

func TestEveryMethodHonoursItsContext(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	arrived := make(chan struct{})
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case arrived <- struct{}{}:
		case <-r.Context().Done():
		}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	for name, m := range clientMethods(t) {
		if m.noContext {
			continue
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.do(ctx, client, m.names) }()
		<-arrived
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a daemon that doesn't answer and a cancelled context = %v, want context.Canceled", name, err)
		}
	}
}

func TestHugeAnswersAreRefused(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		blank := []byte(strings.Repeat(" ", 1<<20))
		for range 40 {
			if _, err := w.Write(blank); err != nil {
				return
			}
		}
	})
	for name, call := range map[string]func(context.Context) error{
		"GetVMStats": func(ctx context.Context) error { return errorOf(client.GetVMStats(ctx, "")) },
		"ReadDir":    func(ctx context.Context) error { return errorOf(client.ReadDir(ctx, "vm-1", "/")) },
	} {
		if err := call(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than 32 MiB") {
			t.Errorf("%s with an answer of 40 MiB = %v, want that it is longer than 32 MiB", name, err)
		}
	}
}

func FuzzEscapePath(f *testing.F) {
	f.Add("vm", "a/b?c#d")
	f.Add("..", "x")
	f.Add("%2f", "\n\x00\xff")
	f.Add("*", "~;:@&=+$,")
	f.Fuzz(func(t *testing.T, a, b string) {
		escaped, err := slicer.EscapePath(a, b)
		if err != nil {
			if isName(a) && isName(b) {
				t.Errorf("EscapePath(%q, %q) = %v, want no error", a, b, err)
			}
			return
		}
		parsed, err := url.ParseRequestURI(escaped + "?q=1")
		if err != nil {
			t.Fatalf("EscapePath(%q, %q) = %q, which isn't a URL: %v", a, b, escaped, err)
		}
		segments := strings.Split(parsed.EscapedPath(), "/")
		if len(segments) != 3 || segments[0] != "" || parsed.RawQuery != "q=1" || parsed.Fragment != "" {
			t.Fatalf("EscapePath(%q, %q) = %q, which has other parts", a, b, escaped)
		}
		for i, want := range []string{a, b} {
			if got, err := url.PathUnescape(segments[i+1]); err != nil || got != want {
				t.Errorf("EscapePath(%q, %q) has part %d = %q, %v", a, b, i, got, err)
			}
		}
	})
}

func isName(s string) bool { return s != "" && s != "." && s != ".." }
