package daemon_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

func TestBackgroundOutputOverTheRing(t *testing.T) {
	const lines = 300
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"many": func(_ context.Context, p *slicertest.Proc) int {
			for i := range lines {
				fmt.Fprintf(p.Stdout, "line %4d\n", i) // 10 bytes
			}
			return 0
		},
	}})
	vm := a.create(`{}`)
	path := a.background(vm, "cmd", "many", "ring_bytes", "1000")
	a.finish(path)
	info := a.info(path)
	if info.BytesWritten != lines*10 || info.BytesDropped < 2000 || info.RingBytes != 1000 {
		t.Errorf("info = %+v, want 3000 bytes written, over 2000 of them dropped", info)
	}
	for _, query := range []string{"", "?from_id=1", "?from_id=0&follow=true"} {
		got := a.logs(path, query)
		gap := got[0]
		if gap.Type != "gap" || gap.DroppedBytes != info.BytesDropped || gap.Message == "" ||
			gap.ID != uint64(gap.DroppedFrames) || got[1].ID != gap.ID+1 {
			t.Errorf("logs%s begin with %+v, %+v, want a gap of %d bytes", query, gap, got[1], info.BytesDropped)
		}
		var kept strings.Builder
		for i, f := range got[1:] {
			if f.ID != got[1].ID+uint64(i) {
				t.Errorf("frame %d has id %d, want %d", i, f.ID, got[1].ID+uint64(i))
			}
			kept.WriteString(f.Stdout)
		}
		if int64(kept.Len()) != info.BytesWritten-info.BytesDropped || !strings.HasSuffix(kept.String(), "line  299\n") {
			t.Errorf("logs%s have %q, want the newest %d bytes", query, kept.String(), info.BytesWritten-info.BytesDropped)
		}
		if last := got[len(got)-1]; last.Type != "exit" || last.ID != info.NextID-1 {
			t.Errorf("logs%s end with %+v, want exit with id %d", query, last, info.NextID-1)
		}
	}
	got := a.logs(path, "?from_id=3")[0]
	if all := a.logs(path, "")[0]; got.DroppedFrames != all.DroppedFrames-2 || got.DroppedBytes <= 0 || got.DroppedBytes >= all.DroppedBytes {
		t.Errorf("gap from 3 = %+v, want 2 frames less than %+v and what they had", got, all)
	}
}

func TestGapsOfALongRunAreNearlyExact(t *testing.T) {
	// Each frame is larger than what joins others, so there is one a write.
	const writes, size = 5000, 5 << 10
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"flood": func(_ context.Context, p *slicertest.Proc) int {
			chunk := strings.Repeat("x", size)
			for range writes {
				if _, err := io.WriteString(p.Stdout, chunk); err != nil {
					return 1
				}
			}
			return 0
		},
	}})
	vm := a.create(`{}`)
	path := a.background(vm, "cmd", "flood", "ring_bytes", fmt.Sprint(10*size))
	a.finish(path)
	for _, from := range []int64{1, 2, 700, 4000, 4980} {
		gap := a.logs(path, fmt.Sprint("?from_id=", from))[0]
		// Frame 1 is the started one; up to 16 frames share a mark.
		exact := int64(gap.DroppedFrames) * size
		if gap.Type != "gap" || gap.DroppedBytes < exact-size || gap.DroppedBytes > exact+16*size {
			t.Errorf("gap from %d = %d frames with %d bytes, want about %d", from, gap.DroppedFrames, gap.DroppedBytes, exact)
		}
	}
}

func TestBackgroundOutputIsWholeCharactersOrBase64(t *testing.T) {
	release := make(chan struct{})
	a := newAPI(t, slicertest.Options{Programs: map[string]slicertest.Program{
		"halves": func(_ context.Context, p *slicertest.Proc) int {
			for _, w := range []struct {
				to   io.Writer
				text string
			}{{p.Stdout, "a\xc3"}, {p.Stderr, "\xe2\x82"}, {p.Stdout, "\xa4b"}, {p.Stderr, "\xac"}, {p.Stdout, "\xff"}, {p.Stderr, "\xf0"}} {
				if _, err := io.WriteString(w.to, w.text); err != nil {
					return 1
				}
			}
			<-release
			return 0
		},
	}})
	vm := a.create(`{}`)
	text := a.background(vm, "cmd", "halves")
	raw := a.background(vm, "cmd", "halves", "stdio", "base64")
	close(release)
	a.finish(text)
	a.finish(raw)
	var stdout, stderr string
	for _, f := range a.logs(text, "") {
		if f.Encoding != "" {
			t.Errorf("frame %+v of text has an encoding", f)
		}
		stdout, stderr = stdout+f.Stdout, stderr+f.Stderr
	}
	if stdout != "aäb\ufffd" || stderr != "€\ufffd" {
		t.Errorf("text = %q, %q, want whole characters", stdout, stderr)
	}
	want := []string{"1 started", `2 stdout "YcM="`, `3 stderr "4oI="`, `4 stdout "pGI="`, `5 stderr "rA=="`, `6 stdout "/w=="`, `7 stderr "8A=="`, "8 exit 0"}
	if diff := cmp.Diff(want, brief(a.logs(raw, ""))); diff != "" {
		t.Errorf("base64 logs (-want +got):\n%s", diff)
	}
	if got := a.logs(raw, "?from_id=2")[0].Encoding; got != "base64" {
		t.Errorf("encoding = %q, want base64", got)
	}
}

func TestBackgroundStreamsThatNobodyWants(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm := a.create(`{}`)
	path := a.background(vm, "cmd", "echo", "args", "hi", "stdout", "false")
	a.finish(path)
	if diff := cmp.Diff([]string{"1 started", "2 exit 0"}, brief(a.logs(path, ""))); diff != "" {
		t.Errorf("logs with stdout=false (-want +got):\n%s", diff)
	}
}

func TestRingBudget(t *testing.T) {
	a := newAPI(t, slicertest.Options{})
	vm, other := a.create(`{}`), a.create(`{}`)
	first := a.background(vm, "cmd", "true", "ring_bytes", fmt.Sprint(200<<20))
	a.finish(first)
	large := []string{"cmd", "true", "background", "true", "ring_bytes", fmt.Sprint(56<<20 + 1)}
	if got := a.want(503, "POST", execPath(vm, large...), "").message(t); !strings.Contains(got, "delete") {
		t.Errorf("exec above the budget says %q, want what to do", got)
	}
	a.want(201, "POST", execPath(other, large...), "") // another VM's agent has its own
	a.want(400, "POST", execPath(vm, "cmd", "nope", "background", "true", "ring_bytes", fmt.Sprint(56<<20)), "")
	a.background(vm, "cmd", "true", "ring_bytes", fmt.Sprint(56<<20)) // the failed one took nothing
	a.want(503, "POST", execPath(vm, "cmd", "true", "background", "true"), "")
	a.want(200, "DELETE", first, "")
	a.background(vm, "cmd", "true")
}
