package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// identity tells a process from a later one with the same id.
type identity struct {
	pid     int
	started string
}

// watcher collects every process below another while the tour goes on.
type watcher struct {
	end  chan struct{}
	seen chan map[identity]string
}

func watchProcesses(root int) *watcher {
	w := &watcher{end: make(chan struct{}), seen: make(chan map[identity]string)}
	go func() {
		seen := map[identity]string{}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			collect(root, seen)
			select {
			case <-tick.C:
			case <-w.end:
				w.seen <- seen
				return
			}
		}
	}()
	return w
}

// stop ends the watch and returns what was seen.
func (w *watcher) stop() map[identity]string {
	close(w.end)
	return <-w.seen
}

// collect adds the processes below root to seen.
func collect(root int, seen map[identity]string) {
	type process struct {
		identity
		name string
	}
	children := map[int][]process{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, parent, started, ok := stat(pid)
		if ok {
			children[parent] = append(children[parent], process{identity{pid, started}, name})
		}
	}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			seen[p.identity] = p.name
			queue = append(queue, p.pid)
		}
	}
}

// stat reads a process's name, parent and start time.
func stat(pid int) (name string, parent int, started string, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if err != nil || open < 0 || end < open {
		return "", 0, "", false
	}
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) < 20 {
		return "", 0, "", false
	}
	parent, err = strconv.Atoi(fields[1])
	return string(b[open+1 : end]), parent, fields[19], err == nil
}

// nothingLeft checks that no process, mount or folder of the server's is left.
func nothingLeft(processes map[identity]string, state string) error {
	if len(processes) == 0 {
		return errors.New("no process of the server's was ever seen")
	}
	for id, name := range processes {
		if _, _, started, ok := stat(id.pid); ok && started == id.started {
			return fmt.Errorf("process %d (%s) is left", id.pid, name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), filepath.Dir(state)) {
		return fmt.Errorf("a mount below %s is left", filepath.Dir(state))
	}
	if _, err := os.Stat(state); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the folder %s is left", state)
	}
	return nil
}
