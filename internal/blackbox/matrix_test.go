package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// oneSession is the cells of one client over one transport in one revision,
// of which absentHere says that cancel doesn't exist.
func oneSession() []cell {
	return allCells([]string{"http"}, []string{"2025-06-18"}, []string{"sdk"})
}

const absentHere = "http * cancel sdk | can't | it was never able to"

func reportOf(c cell, ok bool, detail string) report {
	return report{Transport: c.transport, Version: c.version, Case: c.name, Client: c.client, OK: ok, Detail: detail}
}

func TestBoard(t *testing.T) {
	asListed := func(c cell) report {
		if c.name == "cancel" {
			return reportOf(c, false, "the client can't do it")
		}
		return reportOf(c, true, "")
	}
	tests := []struct {
		name   string
		report func(c cell) (r report, sent bool)
		more   []report
		fails  string // what the printed lines say; "" is a run that is well
	}{
		{
			name:   "a run in which every cell is as listed is well",
			report: func(c cell) (report, bool) { return asListed(c), true },
		},
		{
			name: "a cell that fails fails the run",
			report: func(c cell) (report, bool) {
				if c.name == "huge" {
					return reportOf(c, false, "too much"), true
				}
				return asListed(c), true
			},
			fails: "FAIL   http 2025-06-18 huge sdk (0.0 s): too much",
		},
		{
			name:   "an absent cell that works fails the run",
			report: func(c cell) (report, bool) { return reportOf(c, true, ""), true },
			fails:  "FAIL   http 2025-06-18 cancel sdk (0.0 s): it works, and is listed as absent",
		},
		{
			name: "an absent cell that fails for another reason fails the run",
			report: func(c cell) (report, bool) {
				if c.name == "cancel" {
					return reportOf(c, false, "connection refused"), true
				}
				return asListed(c), true
			},
			fails: `absent, but not because of "can't": connection refused`,
		},
		{
			name:   "a cell that nobody reported fails the run",
			report: func(c cell) (report, bool) { return asListed(c), c.name != "list" },
			fails:  "FAIL   http 2025-06-18 list sdk: nothing was reported",
		},
		{
			name:   "a cell reported twice fails the run",
			report: func(c cell) (report, bool) { return asListed(c), true },
			more:   []report{reportOf(oneSession()[0], true, "")},
			fails:  "reported twice",
		},
		{
			name:   "a cell that the run doesn't have fails it",
			report: func(c cell) (report, bool) { return asListed(c), true },
			more:   []report{reportOf(cell{"smoke", "2025-06-18", "list", "sdk"}, true, "")},
			fails:  "not a cell of this run",
		},
		{
			name: "what a server says makes no line of its own",
			report: func(c cell) (report, bool) {
				if c.name == "list" {
					return reportOf(c, false, "bad\nok     forged"), true
				}
				return asListed(c), true
			},
			fails: "bad ok     forged",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			listed, err := parseAbsent(absentHere)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			b := newBoard(oneSession(), listed, &out)
			for _, c := range oneSession() {
				if r, sent := tt.report(c); sent {
					b.add(r)
				}
			}
			for _, r := range tt.more {
				b.add(r)
			}
			if err := b.finish(); (err != nil) != (tt.fails != "") {
				t.Errorf("finish() = %v, want an error: %t\n%s", err, tt.fails != "", &out)
			}
			if !strings.Contains(out.String(), tt.fails) {
				t.Errorf("printed\n%s\nwant %q in it", &out, tt.fails)
			}
		})
	}
}

func TestNoCellIsNoSuccess(t *testing.T) {
	tests := []struct {
		name string
		want []cell
	}{
		{"a run without cells fails", nil},
		{"a run whose cells are all absent fails", []cell{{"http", "2025-06-18", "cancel", "sdk"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			listed, err := parseAbsent(absentHere)
			if err != nil {
				t.Fatal(err)
			}
			b := newBoard(tt.want, listed, &strings.Builder{})
			for _, c := range tt.want {
				b.add(reportOf(c, false, "can't"))
			}
			if err := b.finish(); err == nil {
				t.Error("finish() = nil, want an error")
			}
		})
	}
}

func TestAllCells(t *testing.T) {
	all := allCells(transports, versions, clients)
	if got, want := len(all), 3*5*6*3; got != want {
		t.Errorf("the matrix has %d cells, want %d", got, want)
	}
	once := make(map[cell]bool)
	for _, c := range all {
		once[c] = true
	}
	if len(once) != len(all) {
		t.Errorf("of %d cells only %d differ", len(all), len(once))
	}
}

func TestAbsentFile(t *testing.T) {
	listed, err := parseAbsent(absentText)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range allCells(transports, versions, clients) {
		var covering int
		for _, a := range listed {
			if a.covers(c) {
				covering++
			}
		}
		if covering > 1 {
			t.Errorf("%s is listed %d times", c, covering)
		}
	}
}

func TestParseAbsent(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string // the cells that are covered, or the error
	}{
		{"an asterisk stands for all", "stdio 2025-06-18 huge * | no | why", "stdio 2025-06-18 huge inspector,stdio 2025-06-18 huge sdk,stdio 2025-06-18 huge client"},
		{"a list has commas", "stdio,sse 2025-06-18 huge sdk | no | why", "stdio 2025-06-18 huge sdk,sse 2025-06-18 huge sdk"},
		{"comments and empty lines don't count", "# stdio\n\n", ""},
		{"an unknown word is an error", "stdio 2025-06-18 hug sdk | no | why", `line 1: "hug" is none of list, call, error, cancel, progress, huge`},
		{"a missing word is an error", "\nstdio 2025-06-18 huge | no | why", "line 2: 3 words, want 4: transports versions cases clients"},
		{"a missing reason is an error", "stdio 2025-06-18 huge sdk | no | ", "line 1: the failure and the reason must not be empty"},
		{"a missing failure is an error", "stdio 2025-06-18 huge sdk | why", "line 1: 2 parts, want 3: cells | failure | reason"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			listed, err := parseAbsent(tt.text)
			var covered []string
			for _, c := range allCells(transports, versions, clients) {
				for _, a := range listed {
					if a.covers(c) {
						covered = append(covered, c.String())
					}
				}
			}
			got := strings.Join(covered, ",")
			if err != nil {
				got = fmt.Sprint(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("parseAbsent(%q) (-want +got):\n%s", tt.text, diff)
			}
		})
	}
}
