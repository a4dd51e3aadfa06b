package tools

import (
	"strings"
	"testing"
)

func TestTranscriptCountsGapsThatAreLeftOut(t *testing.T) {
	const pages = 3 * mostCharacters
	much := func(tr *transcript) { tr.write(stdout, strings.Repeat("some output\n", pages/12)) }
	for _, tc := range []struct {
		name string
		make func(tr *transcript)
		want string // of the sentence between head and tail
	}{
		{"none are none", much, "omitted; MORE"},
		{"one in the middle", func(tr *transcript) { much(tr); tr.gap(7_000_000); much(tr) }, "omitted, and 7.0 MB there that are no longer kept; MORE"},
		{"one in the beginning is told there", func(tr *transcript) { tr.gap(7_000_000); much(tr) }, "omitted; MORE"},
		{"one in the end is told there", func(tr *transcript) { much(tr); tr.gap(7_000_000); tr.write(stdout, "end\n") }, "omitted; MORE"},
		{"a great many are a sum", func(tr *transcript) {
			much(tr)
			for range 4 * mostGaps {
				tr.gap(1_000_000)
				tr.write(stdout, "between\n")
			}
			much(tr)
		}, "omitted, and 4.1 GB there that are no longer kept; MORE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := newTranscript()
			tc.make(tr)
			_, said, _ := strings.Cut(tr.text("MORE"), "… ")
			said, _, _ = strings.Cut(said, "\n")
			if !strings.HasSuffix(said, tc.want) {
				t.Errorf("between head and tail stands %q, want it to end with %q", said, tc.want)
			}
		})
	}
}
