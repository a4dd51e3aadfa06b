package daemon

import (
	"slices"
	"strings"
	"time"
)

// served are the routes that d serves: all of them, or those that older agents
// know.
func (d *Daemon) served() []route {
	list := d.routes()
	if !d.legacyFrames {
		return list
	}
	list = slices.DeleteFunc(list, func(rt route) bool {
		_, path, _ := strings.Cut(rt.pattern, " ")
		return strings.HasPrefix(path, "/vm/{vm}/fs/") || strings.HasPrefix(path, "/vm/{vm}/exec/") ||
			rt.pattern == "GET /vm/{vm}/exec"
	})
	for i := range list {
		if list[i].pattern == "POST /vm/{vm}/exec" {
			list[i].params = legacyExecParams
		}
	}
	return list
}

// legacyExecParams are the query parameters of an older agent's exec call.
const legacyExecParams = "cmd args* env* uid gid cwd shell stdin stdout stderr permissions buffered"

// untypedFrame is one line of an older agent's exec answer. Only the last
// one's exit code counts.
type untypedFrame struct {
	Timestamp time.Time `json:"timestamp"`
	Stdout    string    `json:"stdout,omitempty"`
	Stderr    string    `json:"stderr,omitempty"`
	ExitCode  int       `json:"exit_code"`
	Error     string    `json:"error,omitempty"`
}

// untyped is f as an older agent sends it.
func (f *frame) untyped() *untypedFrame {
	u := &untypedFrame{Timestamp: f.Timestamp, Stdout: f.Stdout, Stderr: f.Stderr, Error: f.Error}
	if f.ExitCode != nil {
		u.ExitCode = *f.ExitCode
	}
	return u
}
