package tools

import "strings"

// nearest is the candidate that is most likely meant by a misspelt or
// shortened name, or "" when none is close.
func nearest(name string, candidates []string) string {
	const longest = 64 // the distance is quadratic in the length
	if name == "" || len(name) > longest {
		return ""
	}
	if len(name) >= 3 {
		for _, c := range candidates {
			if strings.Contains(c, name) || strings.Contains(name, c) || abbreviates(name, c) {
				return c
			}
		}
	}
	best, least := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		if len(c) > longest {
			continue
		}
		if d := distance(name, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// abbreviates says whether short begins as long does and has its letters in
// long's order, as cmd has for command.
func abbreviates(short, long string) bool {
	if short == "" || long == "" || short[0] != long[0] {
		return false
	}
	for i := 0; i < len(long) && short != ""; i++ {
		if short[0] == long[i] {
			short = short[1:]
		}
	}
	return short == ""
}

// distance counts the single-character edits and neighbour swaps between two
// names, upper and lower case being equal.
func distance(a, b string) int {
	x, y := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	before, prev, cur := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(x); i++ {
		cur[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(y)]
}
