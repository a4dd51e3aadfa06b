// Package processtest tells tests which processes a program has started, and
// which of them are left. It reads Linux's /proc. It is for tests only.
package processtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Below returns the processes below pid, by id; the values are their start
// times, which tell them from later processes of the same ids.
func Below(pid int) map[int]string {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc") // without it there are none to be seen
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil {
			if f := statFields(id); f != nil {
				parent, _ := strconv.Atoi(f[1]) // the kernel's number
				children[parent] = append(children[parent], id)
			}
		}
	}
	found := map[int]string{}
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for _, child := range children[queue[0]] {
			if f := statFields(child); f != nil {
				found[child] = f[19]
				queue = append(queue, child)
			}
		}
	}
	return found
}

// Alive returns the ids of those of processes, as Below returned them, that
// still run.
func Alive(processes map[int]string) (left []int) {
	for id, started := range processes {
		if f := statFields(id); f != nil && f[19] == started && f[0] != "Z" {
			left = append(left, id)
		}
	}
	return left
}

// statFields are the fields of /proc/<pid>/stat after the name.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return nil
	}
	return f
}
