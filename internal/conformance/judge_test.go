package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	const expected = `
server:
  - broken # a reason
  - half:bad # a reason
unchecked:
  - idle # a reason
`
	ok := check{ID: "good", Status: "SUCCESS"}
	bad := check{ID: "bad", Status: "FAILURE", ErrorMessage: "no"}
	tests := []struct {
		name   string
		result result
		want   []string
	}{
		{
			"a scenario that passes is fine",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {ok}}},
			nil,
		},
		{
			"a scenario that fails is a problem",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {ok, bad}}},
			[]string{"line: plain: bad: FAILURE: no"},
		},
		{
			"a warning is a failure",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {ok, {ID: "should", Status: "WARNING"}}}},
			[]string{"line: plain: should: WARNING: "},
		},
		{
			"an expected failure is fine",
			result{scenarios: []string{"broken"}, checks: map[string][]check{"broken": {bad}}},
			nil,
		},
		{
			"an expected failure that passes is a problem",
			result{scenarios: []string{"broken"}, checks: map[string][]check{"broken": {ok}}},
			[]string{"line: broken is expected to fail, and doesn't"},
		},
		{
			"an expected failure of one check excuses no other",
			result{scenarios: []string{"half"}, checks: map[string][]check{"half": {bad, {ID: "worse", Status: "FAILURE"}}}},
			[]string{"line: half: worse: FAILURE: "},
		},
		{
			"a scenario that is listed and didn't run is a problem",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {}}},
			[]string{"line: plain didn't run"},
		},
		{
			"a scenario without results is a problem, whatever is expected",
			result{scenarios: []string{"broken", "idle"}},
			[]string{"line: broken didn't run", "line: idle didn't run"},
		},
		{
			"a scenario that skipped all it has is a problem",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {{Status: "SKIPPED"}, {Status: "INFO"}}}},
			[]string{"line: plain checked nothing"},
		},
		{
			"well-formed messages alone prove nothing",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {{ID: "wire-schema-valid", Status: "SUCCESS"}}}},
			[]string{"line: plain checked nothing"},
		},
		{
			"a malformed message is a problem",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {ok, {ID: "wire-schema-valid", Status: "FAILURE"}}}},
			[]string{"line: plain: wire-schema-valid: FAILURE: "},
		},
		{
			"a scenario that is expected to check nothing may",
			result{scenarios: []string{"idle"}, checks: map[string][]check{"idle": {{Status: "SKIPPED"}}}},
			nil,
		},
		{
			"a scenario that is expected to check nothing, and does, is a problem",
			result{scenarios: []string{"idle"}, checks: map[string][]check{"idle": {ok}}},
			[]string{"line: idle is expected to check nothing, and does"},
		},
		{
			"a scenario that isn't listed is a problem",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {ok}, "more": {ok}}},
			[]string{"line: more ran and isn't listed"},
		},
		{
			"the suite's exit code counts",
			result{scenarios: []string{"plain"}, checks: map[string][]check{"plain": {ok}}, err: errors.New("exit code 1")},
			[]string{"line: exit code 1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := parseExpectations([]byte(expected))
			if err != nil {
				t.Fatal(err)
			}
			tt.result.line = "line"
			if diff := cmp.Diff(tt.want, e.judge(tt.result).problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExpectationThatNothingMeets(t *testing.T) {
	e, err := parseExpectations([]byte("server:\n  - a # why\n  - b:c # why\n  - d:e # why\nunchecked:\n  - f # why\n"))
	if err != nil {
		t.Fatal(err)
	}
	e.judge(result{
		scenarios: []string{"b", "d"},
		checks:    map[string][]check{"b": {{ID: "c", Status: "FAILURE"}}, "d": {{ID: "e", Status: "SUCCESS"}}},
	})
	want := []string{
		"a is expected to fail, and never did",
		"d:e is expected to fail, and never did",
		"f is expected to check nothing, and never did so",
	}
	if diff := cmp.Diff(want, e.unused()); diff != "" {
		t.Errorf("unused() (-want +got):\n%s", diff)
	}
}

func TestExpectationsAreRefused(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"without a reason", "server:\n  # why\n  - a\n  - b\n", "b has no reason"},
		{"without a reason for checking nothing", "unchecked:\n  - a\n", "a has no reason"},
		{"twice", "server:\n  - a # why\n  - a # why\n", "a is there twice"},
		{"of another kind", "client:\n  - a # why\n", "client"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseExpectations([]byte(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("parseExpectations(%q) = %v, want an error with %q", tt.file, err, tt.want)
			}
		})
	}
}

func TestCommittedFiles(t *testing.T) {
	if _, err := parseExpectations(expectedFailures); err != nil {
		t.Errorf("expected-failures.yaml: %v", err)
	}
	// Whoever installs says where from.
	if bytes.Contains(packageLock, []byte(`"resolved"`)) {
		t.Error("package-lock.json says where packages come from; write it with this folder's .npmrc")
	}
}
