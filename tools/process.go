package tools

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// process is a command that was started in a VM and outlives the call that
// started it: a background exec of the daemon, or, where that can't be, one
// whose stream this server holds.
type process interface {
	// id is the handle by which later calls name it.
	id() string

	// pieces yields what the command wrote from a place on, oldest first. With
	// follow it goes on until the command has ended; without, to what is
	// written now. A piece with an end is the last. The error is errBeyond when
	// the place is none that it has come to.
	pieces(ctx context.Context, from cursor, follow bool) iter.Seq2[piece, error]

	// info says how it stands.
	info(ctx context.Context) (processInfo, error)

	// signal sends a signal to its process group; one that has ended is left
	// alone.
	signal(ctx context.Context, name string) error
}

// piece is a part of a command's output, or its end.
type piece struct {
	number  uint64 // rises from piece to piece
	next    uint64 // at least the number of the one after it, and more than number
	stream  int    // stdout or stderr
	text    string
	dropped int64 // bytes that came before and are no longer kept
	end     *ending
}

// ending is how a command ended.
type ending struct {
	code       int
	signal     string // without SIG; "" when it exited by itself
	notStarted bool   // it never ran; reason says why
	reason     string
}

// processInfo is how a process stands.
type processInfo struct {
	id       string
	command  string // as far as the daemon tells it
	running  bool
	started  time.Time
	ended    time.Time // zero while it runs
	end      ending    // once it has ended
	written  int64     // bytes of output
	dropped  int64     // of them no longer kept
	lifetime time.Duration
}

// remote is a background exec of the daemon.
type remote struct {
	client *slicer.SlicerClient
	vm     string
	execID string
}

func (r *remote) id() string { return r.execID }

// pieces implements process over GET …/exec/{id}/logs.
func (r *remote) pieces(ctx context.Context, from cursor, follow bool) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		opts := slicer.ExecLogsOptions{Follow: follow, FromID: from.piece}
		var end *piece // some agents send output after it
		for frame, err := range r.client.ExecLogsSeq(ctx, r.vm, r.execID, opts) {
			if err != nil {
				if pastTheEnd(err) {
					err = errBeyond
				}
				yield(piece{}, err)
				return
			}
			p := piece{number: frame.ID, next: frame.ID + 1, stream: stdout, text: frame.Stdout}
			switch {
			case frame.Type == "exit":
				p.end = &ending{code: frame.ExitCode, signal: bareSignal(frame.Signal), notStarted: frame.NotStarted, reason: frame.Error}
			case frame.Type == "gap":
				p.dropped = frame.DroppedBytes
			case frame.Stderr != "":
				p.stream, p.text = stderr, frame.Stderr
			case frame.Stdout == "":
				continue
			}
			if p.end != nil {
				end = &p
				continue
			}
			p.text = from.rest(p.number, p.text)
			if !yield(p, nil) {
				return
			}
		}
		if end != nil {
			yield(*end, nil)
		}
	}
}

// errBeyond is a place in a command's output that is after all that there is.
var errBeyond = errors.New("the place is beyond the output")

// pastTheEnd says whether a log was asked for from after its last piece.
func pastTheEnd(err error) bool {
	var api *slicer.APIError
	return errors.As(err, &api) && api.StatusCode == http.StatusBadRequest && says(api, "from_id")
}

// info implements process over GET …/exec/{id}.
func (r *remote) info(ctx context.Context) (processInfo, error) {
	info, err := r.client.ExecInfo(ctx, r.vm, r.execID)
	if err != nil {
		return processInfo{}, err
	}
	return remoteInfo(*info), nil
}

func remoteInfo(info slicer.ExecBackgroundInfo) processInfo {
	p := processInfo{
		id: info.ExecID, running: info.Running, started: info.StartedAt,
		written: info.BytesWritten, dropped: info.BytesDropped,
	}
	p.command, p.lifetime = unwrap(info.Command, info.Args)
	if info.EndedAt != nil {
		p.ended = *info.EndedAt
	}
	if info.ExitCode != nil {
		p.end = ending{code: *info.ExitCode, signal: bareSignal(info.Signal)}
	}
	return p
}

// signal implements process over POST …/exec/{id}/kill.
func (r *remote) signal(ctx context.Context, name string) error {
	_, err := r.client.ExecKill(ctx, r.vm, r.execID, slicer.ExecBackgroundKillRequest{Signal: name})
	return err
}
