package slicertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// defaultProgram returns one of the programs that every guest has.
func defaultProgram(name string) Program {
	switch name {
	case "true":
		return func(context.Context, *Proc) int { return 0 }
	case "false":
		return func(context.Context, *Proc) int { return 1 }
	case "echo":
		return echo
	case "cat":
		return cat
	case "sleep":
		return sleep
	case "sh", "bash":
		return shell
	}
	return nil
}

// echo prints its arguments on one line.
func echo(_ context.Context, p *Proc) int {
	if _, err := fmt.Fprintln(p.Stdout, strings.Join(p.Args[1:], " ")); err != nil {
		return 1
	}
	return 0
}

// cat copies its files, or its input when there are none, to its output.
func cat(_ context.Context, p *Proc) int {
	if len(p.Args) == 1 {
		if _, err := io.Copy(p.Stdout, p.Stdin); err != nil {
			return fault(p, err)
		}
		return 0
	}
	code := 0
	for _, name := range p.Args[1:] {
		data, err := p.Files().ReadFile(name)
		if err == nil {
			_, err = p.Stdout.Write(data)
		}
		if err != nil {
			code = fault(p, err)
		}
	}
	return code
}

// sleep waits for as many seconds as its argument says.
func sleep(ctx context.Context, p *Proc) int {
	if len(p.Args) != 2 {
		return fault(p, errors.New("one argument is needed"))
	}
	seconds, err := strconv.ParseFloat(p.Args[1], 64)
	if err != nil {
		return fault(p, err)
	}
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0
	case <-ctx.Done():
		return 1
	}
}

// shell runs the string after -c or -lc, the file that its first argument
// names, or its input: line by line on a terminal, until one is exit.
func shell(ctx context.Context, p *Proc) int {
	run := p.guest.machines.opts.Shell
	if run == nil {
		run = func(ctx context.Context, p *Proc, script string) int {
			return p.Run(ctx, strings.Fields(script)...)
		}
	}
	switch {
	case p.Terminal != nil && (len(p.Args) == 1 || len(p.Args) == 2 && p.Args[1] == "-l"):
		return session(ctx, p, run)
	case len(p.Args) >= 3 && (p.Args[1] == "-c" || p.Args[1] == "-lc"):
		return run(ctx, p, p.Args[2])
	case len(p.Args) >= 2 && !strings.HasPrefix(p.Args[1], "-"):
		script, err := p.Files().ReadFile(p.Args[1])
		if err != nil {
			return fault(p, err)
		}
		return run(ctx, p, withoutShebang(string(script)))
	case len(p.Args) == 1:
		script, err := io.ReadAll(io.LimitReader(p.Stdin, 1<<20))
		if err != nil {
			return fault(p, err)
		}
		return run(ctx, p, string(script))
	}
	return fault(p, fmt.Errorf("option %q is unknown", p.Args[1]))
}

// session runs what is typed, line by line. A line is exit, perhaps with a
// code, or a script. There is no prompt.
func session(ctx context.Context, p *Proc, run func(ctx context.Context, p *Proc, script string) int) int {
	code := 0
	for lines := bufio.NewScanner(p.Stdin); ctx.Err() == nil && lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0:
		case words[0] == "exit":
			if len(words) > 1 {
				if n, err := strconv.Atoi(words[1]); err == nil {
					code = n
				}
			}
			return code
		default:
			code = run(ctx, p, lines.Text())
		}
	}
	return code
}

func withoutShebang(script string) string {
	if strings.HasPrefix(script, "#!") {
		_, script, _ = strings.Cut(script, "\n")
	}
	return script
}

// fault says on p's error output what went wrong and returns exit code 1.
func fault(p *Proc, err error) int {
	fmt.Fprintf(p.Stderr, "%s: %v\n", p.Args[0], err)
	return 1
}
