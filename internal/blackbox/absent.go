package main

import (
	_ "embed" // absent.txt
	"fmt"
	"slices"
	"strings"
)

//go:embed absent.txt
var absentText string

// absence is a line of absent.txt: cells that don't exist. They are tried all
// the same.
type absence struct {
	sides  [4][]string // transports, versions, cases and clients
	says   string      // what the attempt's failure must contain
	reason string
}

func (a absence) covers(c cell) bool {
	for i, word := range []string{c.transport, c.version, c.name, c.client} {
		if !slices.Contains(a.sides[i], word) {
			return false
		}
	}
	return true
}

// parseAbsent reads absent.txt: lines of "transports versions cases clients |
// part of the failure | reason", where each of the four is a list with commas
// or * for all. Empty lines and those that begin with # don't count.
func parseAbsent(text string) ([]absence, error) {
	var list []absence
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		a, err := parseAbsence(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		list = append(list, a)
	}
	return list, nil
}

func parseAbsence(line string) (absence, error) {
	parts := strings.Split(line, "|")
	if len(parts) != 3 {
		return absence{}, fmt.Errorf("%d parts, want 3: cells | failure | reason", len(parts))
	}
	a := absence{says: strings.TrimSpace(parts[1]), reason: strings.TrimSpace(parts[2])}
	if a.says == "" || a.reason == "" {
		return absence{}, fmt.Errorf("the failure and the reason must not be empty")
	}
	words := strings.Fields(parts[0])
	if len(words) != len(a.sides) {
		return absence{}, fmt.Errorf("%d words, want %d: transports versions cases clients", len(words), len(a.sides))
	}
	for i, known := range [][]string{transports, versions, cases, clients} {
		var err error
		if a.sides[i], err = side(words[i], known); err != nil {
			return absence{}, err
		}
	}
	return a, nil
}

// side reads a list with commas of known words, or * for all.
func side(list string, known []string) ([]string, error) {
	if list == "*" {
		return known, nil
	}
	words := strings.Split(list, ",")
	for _, word := range words {
		if !slices.Contains(known, word) {
			return nil, fmt.Errorf("%q is none of %s", word, strings.Join(known, ", "))
		}
	}
	return words, nil
}
