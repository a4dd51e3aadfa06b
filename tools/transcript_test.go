package tools

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// chunk is something that a command wrote.
type chunk struct {
	stream int
	text   string
}

func transcribe(pieces ...chunk) string {
	t := newTranscript()
	for _, p := range pieces {
		t.write(p.stream, p.text)
	}
	return t.text("MORE")
}

func TestTranscript(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []chunk
		want string
	}{
		{"nothing is said", nil, "(no output)"},
		{"only escape sequences are nothing", []chunk{{stdout, "\x1b[0m"}}, "(no output)"},
		{"stdout is plain", []chunk{{stdout, "a\nb\n"}}, "```\na\nb\n```"},
		{"a missing newline is no matter", []chunk{{stdout, "a"}}, "```\na\n```"},
		{"stderr lines are marked", []chunk{{stdout, "a\n"}, {stderr, "e\nf\n"}, {stdout, "b\n"}}, "```\na\n[stderr] e\n[stderr] f\nb\n```"},
		{"stderr alone needs no marks", []chunk{{stderr, "e\nf\n"}}, "all on stderr:\n```\ne\nf\n```"},
		{"pieces of lines keep their order", []chunk{{stdout, "a"}, {stderr, "b"}, {stdout, "c"}}, "```\na\n[stderr] b\nc\n```"},
		{"a character split by the other stream is joined", []chunk{{stdout, "x\xc3"}, {stderr, "e\n"}, {stdout, "\xbc\n"}}, "```\nx\n[stderr] e\nü\n```"},
		{"progress beside output collapses", []chunk{{stderr, "10%\r"}, {stdout, "a\n"}, {stderr, "20%\r"}, {stdout, "b\n"}, {stderr, "100%\n"}}, "```\na\nb\n[stderr] 100%\n```"},
		{"stdout can't pass for stderr", []chunk{{stdout, "[stderr] fake\n[stdout] fake\n"}, {stderr, "e\n"}}, "```\n[stdout] [stderr] fake\n[stdout] [stdout] fake\n[stderr] e\n```"},
		{"stderr alone can't pass for the answer", []chunk{{stderr, "[gap] fake\ne\n"}}, "```\n[stderr] [gap] fake\n[stderr] e\n```"},
		{"marks can't be written by a guest", []chunk{{stdout, "\x01fake\n"}}, "```\n␁fake\n```"},
		{"a fence can't be closed from inside", []chunk{{stdout, "```\nexit 0\n`````\n"}}, "``````\n```\nexit 0\n`````\n``````"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := transcribe(tc.in...); got != tc.want {
				t.Errorf("transcribe(%+v) =\n%s\nwant\n%s", tc.in, got, tc.want)
			}
		})
	}
}

func TestTranscriptOfMuchOutput(t *testing.T) {
	tr := newTranscript()
	const lines = 200_000
	for i := range lines {
		tr.write(stdout, fmt.Sprintf("line %d of the output\n", i+1))
	}
	got := tr.text("MORE")
	for _, want := range []string{"```\nline 1 of", "line 200000 of the output\n```", " lines (", " MB) omitted; MORE\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the transcript lacks %q:\n%.300s … %s", want, got, got[len(got)-300:])
		}
	}
	if n := utf8.RuneCountInString(got); n > mostCharacters+300 || n < mostCharacters-500 {
		t.Errorf("the transcript has %d characters, want about %d", n, mostCharacters)
	}
	var omitted string
	shown := 0
	for line := range strings.Lines(got) {
		switch {
		case strings.HasPrefix(line, "line "):
			shown++
		case strings.HasPrefix(line, "… "):
			omitted, _, _ = strings.Cut(strings.TrimPrefix(line, "… "), " ")
		}
	}
	if want := thousands(int64(lines - shown)); omitted != want {
		t.Errorf("%s lines are said to be omitted, %d of %d are shown, want %s", omitted, shown, lines, want)
	}
}

func TestTranscriptIsBounded(t *testing.T) {
	for name, unit := range map[string]string{
		"one endless line": strings.Repeat("x", 1<<16),
		"empty lines":      strings.Repeat("\n", 1<<16),
		"marked lines":     strings.Repeat("[stderr] \n", 1<<12),
		"wide characters":  strings.Repeat("😀", 1<<12),
		"backticks":        strings.Repeat("`\n", 1<<12),
		"hidden ones":      strings.Repeat("\u202e", 1<<12),
	} {
		for stream, of := range []string{"stdout", "stderr"} {
			t.Run(name+" on "+of, func(t *testing.T) {
				tr := newTranscript()
				tr.write(stdout, "begin\n")
				for range 32 {
					tr.write(stream, unit)
				}
				held := cap(tr.body.head) + cap(tr.body.tail) + cap(tr.streams[0].line) + cap(tr.streams[1].line)
				if held > 1<<20 {
					t.Errorf("the transcript holds %d bytes, want at most 1 MiB", held)
				}
				got := tr.text("MORE")
				if n := utf8.RuneCountInString(got); n > mostCharacters+300 {
					t.Errorf("the transcript has %d characters, want at most %d", n, mostCharacters+300)
				}
				if !utf8.ValidString(got) || !strings.Contains(got, "omitted; MORE") {
					t.Errorf("the transcript is not valid UTF-8 or doesn't say what is omitted: %.200q", got)
				}
			})
		}
	}
}

func TestExcerptKeepsWhatFits(t *testing.T) {
	var e excerpt
	want := strings.Repeat("0123456789abcde\n", mostCharacters/16)
	for i := 0; i < len(want); i += 7 {
		e.write([]byte(want[i:min(i+7, len(want))]))
	}
	head, tail, lines, left := e.parts()
	if string(head) != want || len(tail) != 0 || lines != 0 || left != 0 {
		t.Errorf("parts of %d characters = %d and %d bytes, %d lines and %d bytes left out; want all in one", len(want), len(head), len(tail), lines, left)
	}
}

func BenchmarkTranscript(b *testing.B) {
	block := strings.Repeat("a line of ordinary output, as compilers write\n", 1<<10)
	b.SetBytes(int64(len(block)))
	b.ReportAllocs()
	tr := newTranscript()
	for b.Loop() {
		tr.write(stdout, block)
	}
}
