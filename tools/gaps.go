package tools

// mostGaps is more than an answer has room to show, at either end.
const mostGaps = 1024

// gaps are the places of a transcript where output is missing, in bytes each.
// What is between the first and the last of many is known as a sum only.
type gaps struct {
	total       int64
	first, last []int64
}

func (g *gaps) add(n int64) {
	g.total += n
	if len(g.first) < mostGaps {
		g.first = append(g.first, n)
	}
	g.last = append(g.last, n)
	if len(g.last) > 2*mostGaps {
		g.last = append(g.last[:0], g.last[len(g.last)-mostGaps:]...)
	}
}

// hidden is how many bytes are missing in other places than the first and the
// last ones, of which an answer shows so many.
func (g *gaps) hidden(first, last int) int64 {
	n := g.total
	for _, missing := range g.first[:min(first, len(g.first))] {
		n -= missing
	}
	for _, missing := range g.last[max(0, len(g.last)-last):] {
		n -= missing
	}
	return max(0, n)
}
