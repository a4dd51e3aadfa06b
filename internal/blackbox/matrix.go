package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// The sides of the matrix.
var (
	transports = []string{"stdio", "sse", "http"}
	versions   = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}
	cases      = []string{"list", "call", "error", "cancel", "progress", "huge"}
	clients    = []string{"inspector", "sdk", "client"}
)

// cell is one thing that one client does over one transport in one revision of
// the protocol.
type cell struct {
	transport, version, name, client string
}

func (c cell) String() string {
	return strings.Join([]string{c.transport, c.version, c.name, c.client}, " ")
}

// allCells are the cells that a run of these transports, versions and clients
// has.
func allCells(transports, versions, clients []string) []cell {
	var all []cell
	for _, client := range clients {
		for _, transport := range transports {
			for _, version := range versions {
				for _, name := range cases {
					all = append(all, cell{transport, version, name, client})
				}
			}
		}
	}
	return all
}

// report is what a driver says of a cell, a line of JSON.
type report struct {
	Transport string  `json:"transport"`
	Version   string  `json:"version"`
	Case      string  `json:"case"`
	Client    string  `json:"client"`
	OK        bool    `json:"ok"`
	Detail    string  `json:"detail"` // why it isn't
	Seconds   float64 `json:"seconds"`
}

func (r report) cell() cell { return cell{r.Transport, r.Version, r.Case, r.Client} }

// state is how a cell ended.
type state string

// The states of a cell. Only failed fails a run.
const (
	passed state = "ok"
	absent state = "absent" // it doesn't exist, as absent.txt says
	failed state = "FAIL"
)

// board gathers the reports of a run.
type board struct {
	want   []cell
	absent []absence
	states map[cell]state
	out    io.Writer
	wrong  int // reports that are none of the wanted cells'
}

func newBoard(want []cell, absent []absence, out io.Writer) *board {
	return &board{want: want, absent: absent, states: make(map[cell]state), out: out}
}

// add enters a report and prints its line.
func (b *board) add(r report) {
	c := r.cell()
	if !slices.Contains(b.want, c) || b.states[c] != "" {
		b.wrong++
		fmt.Fprintf(b.out, "%s %q: reported twice, or not a cell of this run\n", failed, c.String())
		return
	}
	s, why := b.judge(r)
	b.states[c] = s
	line := fmt.Sprintf("%-6s %s (%.1f s)", s, c, r.Seconds)
	if why != "" {
		line += ": " + why
	}
	fmt.Fprintln(b.out, line)
}

// judge says how a cell ended, and why if it isn't well.
func (b *board) judge(r report) (s state, why string) {
	i := slices.IndexFunc(b.absent, func(a absence) bool { return a.covers(r.cell()) })
	switch {
	case i < 0 && r.OK:
		return passed, ""
	case i < 0:
		return failed, oneLine(r.Detail)
	case r.OK:
		return failed, "it works, and is listed as absent"
	case !strings.Contains(r.Detail, b.absent[i].says):
		return failed, fmt.Sprintf("absent, but not because of %q: %s", b.absent[i].says, oneLine(r.Detail))
	}
	return absent, b.absent[i].reason
}

// oneLine keeps what a server or a client says from looking like lines of the
// report.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// finish prints what is missing and the table, and returns an error unless
// every cell is as it should be and at least one was tried and did well.
func (b *board) finish() error {
	count := make(map[state]int)
	for _, c := range b.want {
		if b.states[c] == "" {
			b.states[c] = failed
			fmt.Fprintf(b.out, "%-6s %s: nothing was reported\n", failed, c)
		}
		count[b.states[c]]++
	}
	b.table()
	fmt.Fprintf(b.out, "matrix: %d cells: %d ok, %d absent, %d failed\n", len(b.want), count[passed], count[absent], count[failed])
	switch {
	case count[failed] > 0, b.wrong > 0:
		return fmt.Errorf("%d cells failed, and %d reports were of no cell", count[failed], b.wrong)
	case count[passed] == 0:
		return fmt.Errorf("no cell did well")
	}
	return nil
}

// table prints a row a transport, version and client, and a column a case.
func (b *board) table() {
	fmt.Fprintf(b.out, "\n%-9s  %-5s  %-10s ", "client", "over", "version")
	for _, name := range cases {
		fmt.Fprintf(b.out, " %-8s", name)
	}
	for i, c := range b.want {
		if i%len(cases) == 0 {
			fmt.Fprintf(b.out, "\n%-9s  %-5s  %-10s ", c.client, c.transport, c.version)
		}
		mark := string(b.states[c])
		if b.states[c] == absent {
			mark = "-"
		}
		fmt.Fprintf(b.out, " %-8s", mark)
	}
	fmt.Fprint(b.out, "\n\n")
}
