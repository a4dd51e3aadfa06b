package tools

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

const (
	shell = "/bin/bash"

	// longestArgument is what Linux takes as one argument of a program.
	longestArgument = 128<<10 - 1

	// killGrace is how long a command whose time is up has between TERM and
	// KILL.
	killGrace = 5 * time.Second

	// remoteRing is how many bytes of a process's output the agent keeps.
	remoteRing = 4 << 20

	// startTime bounds the start of a command.
	startTime = 10 * time.Second

	// roomTime is how long a command waits for room for its output before
	// output that nobody has read makes place for it.
	roomTime = 2 * time.Second

	// scriptPrefix begins the names of the files that scripts too long for an
	// argument travel in.
	scriptPrefix = "/tmp/.slicervm-mcp-script-"
)

// The launchers run $1 with bash -lc for at most $0 seconds, where the guest
// has a program for that. The second finds the script in the file $1, which it
// removes. The shells between are replaced, so that a command's process group,
// its exit code and its signal are those of the process itself.
const (
	runs       = `command -v timeout >/dev/null 2>&1 && exec timeout -k 5 "$0" ` + shell + ` -lc "$1"; exec ` + shell + ` -lc "$1"`
	runsFile   = `command -v timeout >/dev/null 2>&1 && exec timeout -k 5 "$0" ` + shell + ` -lc '` + fromFile + `' "$1"; exec ` + shell + ` -lc '` + fromFile + `' "$1"`
	fromFile   = `s=$(cat -- "$0" && printf x) || exit 126; rm -f -- "$0"; eval "${s%x}"`
	shellOfAll = "/bin/sh"
)

// wrap makes req run its command under a launcher for at most lifetime. A
// script in a file is named by file.
func wrap(req *slicer.SlicerExecRequest, file string, lifetime time.Duration) {
	script, what := runs, req.Command
	if file != "" {
		script, what = runsFile, file
	}
	req.Command, req.Shell = shellOfAll, ""
	req.Args = []string{"-c", script, strconv.Itoa(int(lifetime / time.Second)), what}
}

// unwrap is what wrap was given, as the daemon tells of a process.
func unwrap(command string, args []string) (script string, lifetime time.Duration) {
	if command != shellOfAll || len(args) != 4 || args[0] != "-c" || args[1] != runs && args[1] != runsFile {
		return strings.Join(append([]string{command}, args...), " "), 0
	}
	if n, err := strconv.Atoi(args[2]); err == nil {
		lifetime = time.Duration(n) * time.Second
	}
	if args[1] == runsFile {
		return "(a long script)", lifetime
	}
	return args[3], lifetime
}

// launch starts a command that lives for at most lifetime: in the background of
// the daemon, or over a stream of this server's where the daemon has no
// background, or where there is input.
func (t *Toolset) launch(ctx context.Context, vm slicer.SlicerNode, req slicer.SlicerExecRequest, stdin string, lifetime time.Duration) (process, error) {
	script := req.Command
	file := ""
	if len(script) > longestArgument {
		file = scriptPrefix + strings.ToLower(rand.Text())
		if err := t.client.WriteFile(ctx, vm.Hostname, file, []byte(script), 0o600, req.UID, req.GID); err != nil {
			return nil, fmt.Errorf("put the script into the VM: %w", err)
		}
	}
	p, err := t.launchScript(ctx, vm, req, file, stdin, lifetime)
	if err != nil && file != "" {
		t.removeScript(ctx, vm, file)
	}
	return p, err
}

func (t *Toolset) launchScript(ctx context.Context, vm slicer.SlicerNode, req slicer.SlicerExecRequest, file, stdin string, lifetime time.Duration) (process, error) {
	script := req.Command
	wrap(&req, file, lifetime)
	if stdin == "" && !t.noBackground.Load() {
		p, err := t.launchRemote(ctx, vm, req)
		if !errors.Is(err, slicer.ErrNoBackground) {
			if err == nil {
				t.timers.start(p, lifetime+2*killGrace)
			}
			return p, err
		}
		t.noBackground.Store(true)
	}
	return t.locals.start(vm, script, lifetime, func(ctx context.Context, out func(stream int, text string)) ending {
		return t.stream(ctx, vm, req, stdin, out)
	})
}

// launchRemote starts a background exec. Its answer is waited for also when ctx
// ends meanwhile: a command must not run that nobody knows of. When the agent
// has no room for its output, processes that have ended and were read make place;
// unread ones only for what would have no room at all.
func (t *Toolset) launchRemote(ctx context.Context, vm slicer.SlicerNode, req slicer.SlicerExecRequest) (process, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(startTime, t.within(killTime)))
	defer cancel()
	ring := int64(remoteRing)
	for unreadStays := time.Now().Add(roomTime); ; {
		started, err := t.client.ExecBackground(ctx, vm.Hostname, req, slicer.ExecBackgroundOptions{RingBytes: ring})
		if err == nil {
			return &remote{client: t.client, vm: vm.Hostname, execID: started.ExecID}, nil
		}
		switch {
		case !slicer.IsAPIStatus(err, http.StatusServiceUnavailable):
			return nil, err
		case t.makeRoom(ctx, vm, func(e slicer.ExecBackgroundInfo) bool { return t.readOut.has(e.ExecID) }):
		case ring != 0:
			ring = 0 // the agent's default, which is less
		case time.Now().Before(unreadStays):
			// Commands that end and are read in the meantime make place.
			pause(ctx, roomTime/10)
		case !t.makeRoom(ctx, vm, func(slicer.ExecBackgroundInfo) bool { return true }):
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

// makeRoom forgets the oldest half of a VM's processes that have ended and may
// go. It reports whether there were any.
func (t *Toolset) makeRoom(ctx context.Context, vm slicer.SlicerNode, mayGo func(slicer.ExecBackgroundInfo) bool) bool {
	t.makingRoom.Lock() // others would forget the next half
	defer t.makingRoom.Unlock()
	list, err := t.client.ExecList(ctx, vm.Hostname)
	if err != nil {
		return false
	}
	list = slices.DeleteFunc(list, func(e slicer.ExecBackgroundInfo) bool { return e.Running || e.EndedAt == nil || !mayGo(e) })
	slices.SortFunc(list, func(a, b slicer.ExecBackgroundInfo) int { return a.EndedAt.Compare(*b.EndedAt) })
	made := false
	for _, e := range list[:(len(list)+1)/2] {
		_, err := t.client.ExecDelete(ctx, vm.Hostname, e.ExecID)
		made = made || err == nil
	}
	return made
}

// stream runs a command over the streaming exec until its end or ctx's, at
// which the daemon kills it.
func (t *Toolset) stream(ctx context.Context, vm slicer.SlicerNode, req slicer.SlicerExecRequest, stdin string, out func(stream int, text string)) ending {
	var frames chan slicer.SlicerExecWriteResult
	var err error
	if stdin == "" {
		frames, err = t.client.ExecWithReader(ctx, vm.Hostname, req, nil)
	} else {
		frames, err = t.client.ExecWithReader(ctx, vm.Hostname, req, strings.NewReader(stdin))
	}
	if err != nil {
		return ending{notStarted: true, reason: explanation(err)}
	}
	end, typed := ending{code: -1, reason: "the connection to the VM broke"}, false
	for frame := range frames {
		out(stdout, frame.Stdout)
		out(stderr, frame.Stderr)
		switch frame.Type {
		case "exit", "":
			end = ending{code: frame.ExitCode, signal: bareSignal(frame.Signal), notStarted: frame.NotStarted, reason: frame.Error}
			typed = frame.Type == "exit"
		}
	}
	if ctx.Err() != nil && !typed {
		return ending{code: 128 + 9, signal: "KILL"}
	}
	return end
}

// removeScript removes the file of a script that didn't begin to run.
func (t *Toolset) removeScript(ctx context.Context, vm slicer.SlicerNode, file string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	// The VM may be what is wrong; the file goes with it.
	_ = t.client.Remove(ctx, vm.Hostname, file)
}

// bareSignal is a signal's name without SIG, in a sentence.
func bareSignal(name string) string {
	return strings.TrimPrefix(oneLine(name, 16), "SIG")
}
