package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	startTime = 30 * time.Second // for a server to print its address
	endTime   = 20 * time.Second // for a server to end in order
)

// served is a server that runs.
type served struct {
	address string // what it printed first

	name   string
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stderr *tail
	rest   chan string // what it printed after its address, once it has ended
}

// serve starts the binary and waits for the address that it prints.
func serve(ctx context.Context, binary, folder string, args ...string) (*served, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &served{name: args[0], cmd: exec.CommandContext(ctx, binary, args...), cancel: cancel, stderr: &tail{}, rest: make(chan string, 1)}
	s.cmd.Dir = folder
	s.cmd.Stderr = s.stderr
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = endTime
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	first := make(chan string, 1)
	go func() {
		lines := bufio.NewReaderSize(io.LimitReader(out, maxReport), maxReport)
		line, _ := lines.ReadString('\n') // an empty one says it all
		first <- strings.TrimSpace(line)
		rest, _ := io.ReadAll(lines)
		s.rest <- string(rest)
	}()
	select {
	case s.address = <-first:
	case <-time.After(startTime):
	case <-ctx.Done():
	}
	if s.address == "" {
		_ = s.cmd.Process.Kill()
		err := s.end()
		return nil, fmt.Errorf("%s printed no address: %w", s.name, err)
	}
	return s, nil
}

// end ends the server, and says what was not in order about that.
func (s *served) end() error {
	defer s.cancel()
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended: Wait tells
	kill := time.AfterFunc(endTime, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	rest := <-s.rest
	err := s.cmd.Wait()
	if rest != "" {
		err = errors.Join(err, fmt.Errorf("it went on printing: %q", rest))
	}
	if strings.Contains(s.stderr.String(), "panic") {
		err = errors.Join(err, errors.New("it panicked"))
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", s.name, err, s.stderr.String())
	}
	if said := s.stderr.String(); said != "" {
		fmt.Fprintf(os.Stdout, "what %s logged:\n%s\n", s.name, said)
	}
	return nil
}
