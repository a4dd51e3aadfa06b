package tools

import "testing"

func TestNearest(t *testing.T) {
	exec := []string{"command", "vm", "cwd", "env", "user", "timeout_seconds"}
	for _, tc := range []struct {
		name       string
		candidates []string
		want       string
	}{
		{"comand", exec, "command"},
		{"cmd", exec, "command"},
		{"Command", exec, "command"},
		{"timeout", exec, "timeout_seconds"},
		{"usr", exec, "user"},
		{"mv", exec, "vm"},
		{"path", []string{"file_path", "vm"}, "file_path"},
		{"workdir", exec, ""},
		{"", exec, ""},
		{"sbox-11", []string{"sbox-1", "api-3"}, "sbox-1"},
		{"zzz", []string{"sbox-1", "api-3"}, ""},
	} {
		if got := nearest(tc.name, tc.candidates); got != tc.want {
			t.Errorf("nearest(%q, %q) = %q, want %q", tc.name, tc.candidates, got, tc.want)
		}
	}
}
