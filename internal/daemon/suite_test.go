package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/internal/daemon/daemontest"
	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// TestAPI runs the API's tests against the scripted guest. Those against the
// sandbox guest are in internal/sandbox.
func TestAPI(t *testing.T) {
	daemontest.Run(t, func(t testing.TB, cfg daemontest.Config) daemontest.Server {
		srv := slicertest.NewServer(t, slicertest.Options{
			Groups: []slicer.SlicerHostGroup{{
				Name: daemontest.Group, Count: cfg.Protected, CPUs: daemontest.GroupCPUs, RamBytes: daemontest.GroupRAMBytes,
			}},
			Token:        cfg.Token,
			LegacyFrames: cfg.LegacyFrames,
			Programs:     suitePrograms(),
			Shell:        lineByLine,
		})
		return daemontest.Server{
			URL: srv.URL, Client: srv.HTTPClient(), Restart: srv.Restart,
			Lacks: map[daemontest.Ability]string{
				daemontest.Freezes:  "scripted programs run on while their VM is paused",
				daemontest.Signals:  "scripted programs are no processes; every signal ends them",
				daemontest.Measures: "scripted programs use nothing that could be measured",
			},
		}
	})
}

// TestSuiteHasItsPrograms holds the programs below against those that they
// stand for.
func TestSuiteHasItsPrograms(t *testing.T) {
	scripted := suitePrograms()
	for name := range maps.Keys(daemontest.Programs()) {
		if scripted[name] == nil {
			t.Errorf("no scripted program stands for %s", name)
		}
	}
}

// lineByLine runs a script's lines, each a command and its words, to the end or
// to an exit.
func lineByLine(ctx context.Context, p *slicertest.Proc, script string) int {
	code := 0
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			code = p.Run(ctx, words...)
		}
	}
	return code
}

// suitePrograms stand for the shell scripts that daemontest copies to real
// guests, and for the programs of a real image that it runs.
func suitePrograms() map[string]slicertest.Program {
	var families atomic.Int32
	return map[string]slicertest.Program{
		"say": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprint(p.Stdout, p.Args[1])
			fmt.Fprint(p.Stderr, p.Args[2])
			code, err := strconv.Atoi(p.Args[3])
			return failed(p, err, code)
		},
		"where": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprintln(p.Stdout, p.UID, p.GID, p.Dir, p.Getenv("GREETING"))
			return 0
		},
		"owner": func(_ context.Context, p *slicertest.Proc) int {
			info, err := p.Files().Stat(p.Args[1])
			if err == nil {
				owner := info.Sys().(slicertest.Owner)
				fmt.Fprintf(p.Stdout, "%d %d %o\n", owner.UID, owner.GID, info.Mode().Perm())
			}
			return failed(p, err, 0)
		},
		"link": func(_ context.Context, p *slicertest.Proc) int {
			return failed(p, p.Files().Symlink(p.Args[1], p.Args[2]), 0)
		},
		"until":  until,
		"listen": listen,
		"family": func(ctx context.Context, p *slicertest.Proc) int {
			families.Add(1)
			defer families.Add(-1)
			fmt.Fprintln(p.Stdout, "born")
			<-ctx.Done()
			return 0
		},
		"running": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprintln(p.Stdout, families.Load())
			return 0
		},
		"tty": func(_ context.Context, p *slicertest.Proc) int {
			fmt.Fprintln(p.Stdout, "/dev/pts/0")
			return 0
		},
		"stty": func(_ context.Context, p *slicertest.Proc) int {
			rows, cols, _ := p.Terminal.Size()
			fmt.Fprintln(p.Stdout, rows, cols)
			return 0
		},
	}
}

// failed says on p's error output what went wrong, if anything has.
func failed(p *slicertest.Proc, err error, code int) int {
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: %v\n", p.Args[0], err)
		return 1
	}
	return code
}

func until(ctx context.Context, p *slicertest.Proc) int {
	fmt.Fprintln(p.Stdout, "started")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := p.Files().Stat(p.Args[1]); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 1
		}
	}
	fmt.Fprintln(p.Stdout, p.Args[2])
	code, err := strconv.Atoi(p.Args[3])
	return failed(p, err, code)
}

func listen(ctx context.Context, p *slicertest.Proc) int {
	listener, err := p.Listen(p.Args[1], p.Args[2])
	if err != nil {
		return failed(p, err, 0)
	}
	defer listener.Close()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	fmt.Fprintln(p.Stdout, "ready")
	conn, err := listener.Accept()
	if err != nil {
		return failed(p, err, 0)
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil {
		_, err = fmt.Fprintf(conn, "back: %s", line)
	}
	return failed(p, err, 0)
}
