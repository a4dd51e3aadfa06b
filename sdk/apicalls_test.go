package slicer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// apiCall is a call of one method. status is that of the refusal that it must
// meet; 0 is none.
type apiCall struct {
	method string
	status int
	do     func(ctx context.Context) error
}

// apiCalls is a story that calls every method of the client, in order.
type apiCalls struct {
	t      *testing.T
	srv    *apiServer
	client *slicer.SlicerClient
	local  string // a folder for files of this side
	vm     string // the VM of the story
	second string // another one
	exec   string // its background command
	kept   string // a persistent VM
	commit string // what was committed of it
	forked string // what was forked from that
}

func (c *apiCalls) all() []apiCall {
	var all []apiCall
	for _, part := range [][]apiCall{c.vms(), c.files(), c.secrets(), c.proxy(), c.execs(), c.states(), c.commits(), c.ends()} {
		all = append(all, part...)
	}
	return all
}

func (c *apiCalls) vms() []apiCall {
	s := c.client
	return []apiCall{
		{"GetInfo", 0, func(ctx context.Context) error { return errorOf(s.GetInfo(ctx)) }},
		{"GetHostGroups", 0, func(ctx context.Context) error { return errorOf(s.GetHostGroups(ctx)) }},
		{"CreateVM", 0, func(ctx context.Context) error {
			node, err := s.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{
				RamBytes: slicer.GiB(1), CPUs: 1, Userdata: "#!/bin/sh\ntrue\n", Tags: []string{"a", "team=x"},
			})
			if err == nil {
				c.vm = node.Hostname
			}
			return err
		}},
		{"CreateVM", http.StatusBadRequest, func(ctx context.Context) error {
			return errorOf(s.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{CPUs: 64}))
		}},
		{"CreateVM", http.StatusNotFound, func(ctx context.Context) error {
			return errorOf(s.CreateVM(ctx, "nowhere", slicer.SlicerCreateNodeRequest{}))
		}},
		{"CreateVMWithOptions", 0, func(ctx context.Context) error {
			node, err := s.CreateVMWithOptions(ctx, "", slicer.SlicerCreateNodeRequest{Tags: []string{"name=second"}}, slicer.CreateVMOptions{
				Wait: "userdata", Timeout: 30 * time.Second,
			})
			if err == nil {
				c.second = node.Hostname
			}
			return err
		}},
		{"ListVMs", 0, func(ctx context.Context) error { return errorOf(s.ListVMs(ctx)) }},
		{"ListVMsWithOptions", 0, func(ctx context.Context) error {
			return errorOf(s.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: "a"}))
		}},
		{"ListVMsWithOptions", 0, func(ctx context.Context) error {
			return errorOf(s.ListVMsWithOptions(ctx, slicer.ListOptions{TagPrefix: "team="}))
		}},
		{"GetHostGroupNodes", 0, func(ctx context.Context) error { return errorOf(s.GetHostGroupNodes(ctx, "sbox")) }},
		{"DescribeVM", 0, func(ctx context.Context) error { return errorOf(s.DescribeVM(ctx, c.vm)) }},
		{"GetVMTags", 0, func(ctx context.Context) error { return errorOf(s.GetVMTags(ctx, c.vm)) }},
		{"AddVMTags", 0, func(ctx context.Context) error { return errorOf(s.AddVMTags(ctx, c.vm, "b")) }},
		{"RemoveVMTags", 0, func(ctx context.Context) error { return errorOf(s.RemoveVMTags(ctx, c.vm, "a")) }},
		{"ReplaceVMTags", 0, func(ctx context.Context) error { return errorOf(s.ReplaceVMTags(ctx, c.vm, "c", "d")) }},
		{"GetVMStats", 0, func(ctx context.Context) error { return errorOf(s.GetVMStats(ctx, "")) }},
		{"GetVMStats", 0, func(ctx context.Context) error { return errorOf(s.GetVMStats(ctx, c.vm)) }},
		{"GetVMStats", http.StatusNotFound, func(ctx context.Context) error { return errorOf(s.GetVMStats(ctx, "nobody")) }},
		{"GetVMLogs", 0, func(ctx context.Context) error { return errorOf(s.GetVMLogs(ctx, c.vm, 5)) }},
		{"GetAgentHealth", 0, func(ctx context.Context) error { return errorOf(s.GetAgentHealth(ctx, c.vm, false)) }},
		{"GetAgentHealth", 0, func(ctx context.Context) error { return errorOf(s.GetAgentHealth(ctx, c.vm, true)) }},
		{"GetAgentHealth", http.StatusNotFound, func(ctx context.Context) error { return errorOf(s.GetAgentHealth(ctx, "nobody", false)) }},
		{"UpgradeVM", 0, func(ctx context.Context) error {
			stop, err := c.srv.listen(ctx, c.vm)
			if err != nil {
				return err
			}
			defer stop()
			resp, err := s.UpgradeVM(ctx, c.vm, "forward", nil, http.Header{
				"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
				"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "X-Inlets-Upstream": {"127.0.0.1:8080"}, "X-Inlets-Mode": {"local"},
			})
			if err != nil {
				return err
			}
			return resp.Body.Close()
		}},
		{"UpgradeVM", http.StatusNotFound, func(ctx context.Context) error {
			return errorOf(s.UpgradeVM(ctx, "nobody", "forward", nil, nil)) //nolint:bodyclose // there is none
		}},
	}
}

func (c *apiCalls) files() []apiCall {
	s := c.client
	file := filepath.Join(c.local, "in")
	watch := slicer.SlicerFSWatchRequest{
		Paths: []string{"/tmp"}, Patterns: []string{"*.txt"}, Events: []string{"create", "write"}, Recursive: true,
	}
	return []apiCall{
		{"CpToVM", 0, func(ctx context.Context) error {
			if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
				return err
			}
			return s.CpToVM(ctx, c.vm, file, "/tmp/in", 0, 1000, "0644", "binary")
		}},
		{"CpToVM", 0, func(ctx context.Context) error {
			return s.CpToVM(ctx, c.vm, c.local, "/tmp/dir", slicer.NonRootUser, slicer.NonRootUser, "", "tar", "*.log")
		}},
		{"CpToVM", http.StatusNotFound, func(ctx context.Context) error {
			return s.CpToVM(ctx, "nobody", file, "/tmp/in", 0, 0, "", "binary")
		}},
		{"CpFSToVM", 0, func(ctx context.Context) error {
			return s.CpFSToVM(ctx, c.vm, os.DirFS(c.local), "in", "/tmp/fs", 0, 0, "", "tar")
		}},
		{"CpFromVM", 0, func(ctx context.Context) error {
			return s.CpFromVM(ctx, c.vm, "/tmp/in", filepath.Join(c.local, "out"), "", "binary")
		}},
		{"CpFromVM", 0, func(ctx context.Context) error {
			return s.CpFromVM(ctx, c.vm, "/tmp/dir", filepath.Join(c.local, "outdir"), "", "tar", "*.log")
		}},
		{"CpFromVMToRoot", 0, func(ctx context.Context) error {
			root, err := os.OpenRoot(c.local)
			if err != nil {
				return err
			}
			defer root.Close()
			return s.CpFromVMToRoot(ctx, c.vm, "/tmp/dir", root, slicer.CpRootOptions{})
		}},
		{"CpFromVM", http.StatusNotFound, func(ctx context.Context) error {
			return s.CpFromVM(ctx, c.vm, "/nowhere", filepath.Join(c.local, "out"), "", "binary")
		}},
		{"CpFromVM", http.StatusBadRequest, func(ctx context.Context) error {
			return s.CpFromVM(ctx, c.vm, "/tmp", filepath.Join(c.local, "out"), "", "binary")
		}},
		{"WriteFile", 0, func(ctx context.Context) error {
			return s.WriteFile(ctx, c.vm, "/tmp/w", []byte("written"), 0o600, 0, 0)
		}},
		{"ReadFile", 0, func(ctx context.Context) error { return errorOf(s.ReadFile(ctx, c.vm, "/tmp/w")) }},
		{"OpenFile", 0, func(ctx context.Context) error {
			f, err := s.OpenFile(ctx, c.vm, "/tmp/w")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, f)
			return errors.Join(err, f.Close())
		}},
		{"Stat", 0, func(ctx context.Context) error { return errorOf(s.Stat(ctx, c.vm, "/tmp/w")) }},
		{"Stat", http.StatusNotFound, func(ctx context.Context) error { return errorOf(s.Stat(ctx, c.vm, "/nowhere")) }},
		{"Exists", 0, func(ctx context.Context) error { return errorOf(s.Exists(ctx, c.vm, "/nowhere")) }},
		{"ReadDir", 0, func(ctx context.Context) error { return errorOf(s.ReadDir(ctx, c.vm, "/tmp")) }},
		{"ReadDir", http.StatusNotFound, func(ctx context.Context) error { return errorOf(s.ReadDir(ctx, c.vm, "/nowhere")) }},
		{"Mkdir", 0, func(ctx context.Context) error { return s.Mkdir(ctx, c.vm, "/tmp/d", 0o700) }},
		{"MkdirAll", 0, func(ctx context.Context) error { return s.MkdirAll(ctx, c.vm, "/tmp/d/e/f", 0) }},
		{"Remove", 0, func(ctx context.Context) error { return s.Remove(ctx, c.vm, "/tmp/d/e/f") }},
		{"RemoveAll", 0, func(ctx context.Context) error { return s.RemoveAll(ctx, c.vm, "/tmp/d") }},
		{"FS", 0, func(ctx context.Context) error {
			fsys := s.FS(ctx, c.vm, "/tmp")
			_, err := fs.ReadFile(fsys, "w")
			return errors.Join(err, errorOf(fs.ReadDir(fsys, ".")), errorOf(fs.Stat(fsys, "w")))
		}},
		{"WatchFS", 0, func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			events, err := s.WatchFS(ctx, c.vm, watch)
			if err != nil {
				return err
			}
			if err := s.WriteFile(ctx, c.vm, "/tmp/a.txt", []byte("x"), 0o644, 0, 0); err != nil {
				return err
			}
			event := <-events
			return event.Err
		}},
		{"WatchFSSeq", 0, func(ctx context.Context) error {
			request := watch
			request.OneShot, request.MaxEvents, request.Timeout = true, 1, 10*time.Millisecond
			for _, err := range s.WatchFSSeq(ctx, c.vm, request) {
				return err
			}
			return nil
		}},
	}
}

func (c *apiCalls) secrets() []apiCall {
	s := c.client
	create := slicer.CreateSecretRequest{Name: "key", Data: "v", Permissions: "0600", UID: 1, GID: 2}
	return []apiCall{
		{"CreateSecret", 0, func(ctx context.Context) error { return s.CreateSecret(ctx, create) }},
		{"CreateSecret", 0, func(ctx context.Context) error {
			if err := s.CreateSecret(ctx, create); !errors.Is(err, slicer.ErrSecretExists) {
				return fmt.Errorf("a second time: %w", err)
			}
			return nil
		}},
		{"ListSecrets", 0, func(ctx context.Context) error { return errorOf(s.ListSecrets(ctx)) }},
		{"PatchSecret", 0, func(ctx context.Context) error {
			return s.PatchSecret(ctx, "key", slicer.UpdateSecretRequest{Data: "w", Permissions: "0640"})
		}},
		{"PatchSecret", http.StatusNotFound, func(ctx context.Context) error {
			return s.PatchSecret(ctx, "nothing", slicer.UpdateSecretRequest{Data: "w"})
		}},
		{"DeleteSecret", 0, func(ctx context.Context) error { return s.DeleteSecret(ctx, "key") }},
		{"DeleteSecret", http.StatusNotFound, func(ctx context.Context) error { return s.DeleteSecret(ctx, "key") }},
	}
}

func (c *apiCalls) proxy() []apiCall {
	s := c.client
	return []apiCall{
		{"CreateProxyClient", 0, func(ctx context.Context) error {
			return errorOf(s.CreateProxyClient(ctx, slicer.CreateProxyClientRequest{Name: "agent"}))
		}},
		{"CreateProxyClient", http.StatusConflict, func(ctx context.Context) error {
			return errorOf(s.CreateProxyClient(ctx, slicer.CreateProxyClientRequest{Name: "agent"}))
		}},
		{"ListProxyClients", 0, func(ctx context.Context) error { return errorOf(s.ListProxyClients(ctx)) }},
		{"CreateProxySecret", 0, func(ctx context.Context) error {
			return errorOf(s.CreateProxySecret(ctx, slicer.CreateProxySecretRequest{Name: "gh", Host: "api.github.com", Type: "bearer", Value: "v"}))
		}},
		{"ListProxySecrets", 0, func(ctx context.Context) error { return errorOf(s.ListProxySecrets(ctx)) }},
		{"AddProxyAllowRule", 0, func(ctx context.Context) error {
			return errorOf(s.AddProxyAllowRule(ctx, slicer.AddProxyAllowRequest{
				Client: "agent", Host: "api.github.com", Secret: "gh", Methods: []string{"GET"}, Paths: []string{"/repos/*"},
			}))
		}},
		{"AddProxyAllowRule", http.StatusBadRequest, func(ctx context.Context) error {
			return errorOf(s.AddProxyAllowRule(ctx, slicer.AddProxyAllowRequest{Client: "nobody", Host: "*"}))
		}},
		{"ListProxyAllowRules", 0, func(ctx context.Context) error { return errorOf(s.ListProxyAllowRules(ctx, "agent")) }},
		{"ListProxyAllowRules", http.StatusNotFound, func(ctx context.Context) error { return errorOf(s.ListProxyAllowRules(ctx, "nobody")) }},
		{"RemoveProxyAllowRule", 0, func(ctx context.Context) error { return s.RemoveProxyAllowRule(ctx, "agent", "api.github.com") }},
		{"DeleteProxySecret", 0, func(ctx context.Context) error { return s.DeleteProxySecret(ctx, "gh") }},
		{"DeleteProxyClient", 0, func(ctx context.Context) error { return s.DeleteProxyClient(ctx, "agent") }},
		{"DeleteProxyClient", http.StatusNotFound, func(ctx context.Context) error { return s.DeleteProxyClient(ctx, "agent") }},
	}
}

func (c *apiCalls) execs() []apiCall {
	s := c.client
	return []apiCall{
		{"Exec", 0, func(ctx context.Context) error {
			return drain(s.Exec(ctx, c.vm, slicer.SlicerExecRequest{
				Command: "echo", Args: []string{"a", "b"}, Env: []string{"K=V"}, UID: 0, GID: 0, Stdout: true, Stderr: true, Cwd: "~",
			}))
		}},
		{"Exec", 0, func(ctx context.Context) error {
			err := drain(s.Exec(ctx, c.vm, slicer.SlicerExecRequest{Command: "false", UID: slicer.NonRootUser, GID: slicer.NonRootUser}))
			if err == nil {
				return errors.New("false ended well")
			}
			return nil
		}},
		{"Exec", http.StatusNotFound, func(ctx context.Context) error {
			return drain(s.Exec(ctx, "nobody", slicer.SlicerExecRequest{Command: "true"}))
		}},
		{"ExecWithReader", 0, func(ctx context.Context) error {
			return drain(s.ExecWithReader(ctx, c.vm, slicer.SlicerExecRequest{Command: "cat", Shell: "/bin/bash"}, strings.NewReader("in")))
		}},
		{"ExecBuffered", 0, func(ctx context.Context) error {
			return errorOf(s.ExecBuffered(ctx, c.vm, slicer.SlicerExecRequest{Command: "echo", Args: []string{"hello"}}))
		}},
		{"ExecBackground", 0, func(ctx context.Context) error {
			started, err := s.ExecBackground(ctx, c.vm, slicer.SlicerExecRequest{Command: "echo", Args: []string{"hello"}}, slicer.ExecBackgroundOptions{
				RingBytes: 64 << 10,
			})
			if err == nil {
				c.exec = started.ExecID
			}
			return err
		}},
		{"ExecWaitExit", 0, func(ctx context.Context) error { return errorOf(s.ExecWaitExit(ctx, c.vm, c.exec, 10*time.Second)) }},
		{"ExecList", 0, func(ctx context.Context) error { return errorOf(s.ExecList(ctx, c.vm)) }},
		{"ExecInfo", 0, func(ctx context.Context) error { return errorOf(s.ExecInfo(ctx, c.vm, c.exec)) }},
		{"ExecLogs", 0, func(ctx context.Context) error {
			return drain(s.ExecLogs(ctx, c.vm, c.exec, slicer.ExecLogsOptions{Follow: true, FromID: 1}))
		}},
		{"ExecLogsSeq", 0, func(ctx context.Context) error {
			for _, err := range s.ExecLogsSeq(ctx, c.vm, c.exec, slicer.ExecLogsOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"ExecKill", 0, func(ctx context.Context) error {
			return errorOf(s.ExecKill(ctx, c.vm, c.exec, slicer.ExecBackgroundKillRequest{Signal: "TERM", GraceMS: 100}))
		}},
		{"ExecDelete", 0, func(ctx context.Context) error { return errorOf(s.ExecDelete(ctx, c.vm, c.exec)) }},
		{"ExecInfo", http.StatusGone, func(ctx context.Context) error { return errorOf(s.ExecInfo(ctx, c.vm, c.exec)) }},
		{"Command", 0, func(ctx context.Context) error { return s.Command(ctx, c.vm, "true").Run() }},
		{"CommandContext", 0, func(ctx context.Context) error {
			out, err := s.CommandContext(ctx, c.vm, "echo", "hello").Output()
			if err == nil && string(out) != "hello\n" {
				err = fmt.Errorf("echo wrote %q", out)
			}
			return err
		}},
	}
}

func (c *apiCalls) states() []apiCall {
	s := c.client
	return []apiCall{
		{"PauseVM", 0, func(ctx context.Context) error { return s.PauseVM(ctx, c.vm) }},
		{"Exec", http.StatusConflict, func(ctx context.Context) error {
			return drain(s.Exec(ctx, c.vm, slicer.SlicerExecRequest{Command: "true"}))
		}},
		{"ReadFile", http.StatusConflict, func(ctx context.Context) error { return errorOf(s.ReadFile(ctx, c.vm, "/tmp/w")) }},
		{"ResumeVM", 0, func(ctx context.Context) error { return s.ResumeVM(ctx, c.vm) }},
		{"PauseVM", http.StatusNotFound, func(ctx context.Context) error { return s.PauseVM(ctx, "nobody") }},
		{"SuspendVM", 0, func(ctx context.Context) error { return s.SuspendVM(ctx, c.vm) }},
		{"RestoreVM", 0, func(ctx context.Context) error { return s.RestoreVM(ctx, c.vm) }},
		{"SuspendVM", 0, func(ctx context.Context) error { return s.SuspendVM(ctx, c.vm) }},
		{"RestoreVMWithOptions", 0, func(ctx context.Context) error {
			return s.RestoreVMWithOptions(ctx, c.vm, slicer.RestoreOptions{Wait: "agent", Timeout: 10 * time.Second})
		}},
	}
}

// commits is the part of the story about disks that are kept.
func (c *apiCalls) commits() []apiCall {
	s := c.client
	return []apiCall{
		{"CommitVM", http.StatusConflict, func(ctx context.Context) error {
			return errorOf(s.CommitVM(ctx, c.vm, slicer.SlicerCommitRequest{})) // it is ephemeral
		}},
		{"RelaunchVM", http.StatusConflict, func(ctx context.Context) error { return errorOf(s.RelaunchVM(ctx, c.vm)) }},
		{"CreateVM", 0, func(ctx context.Context) error {
			node, err := s.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{
				Persistent: true, SSHKeys: []string{"ssh-ed25519 AAAA me"}, Tags: []string{"name=kept"},
			})
			if err == nil {
				c.kept = node.Hostname
			}
			return err
		}},
		{"Shutdown", 0, func(ctx context.Context) error { return s.Shutdown(ctx, c.kept, nil) }},
		{"Exec", http.StatusConflict, func(ctx context.Context) error {
			return drain(s.Exec(ctx, c.kept, slicer.SlicerExecRequest{Command: "true"}))
		}},
		{"CommitVM", 0, c.makeCommit},
		{"ListCommits", 0, c.listCommits},
		{"ForkCommit", 0, c.forkCommit},
		{"ForkCommit", http.StatusNotFound, func(ctx context.Context) error {
			return errorOf(s.ForkCommit(ctx, "nothing", slicer.SlicerForkRequest{}, slicer.ForkOptions{}))
		}},
		{"DescribeVM", 0, func(ctx context.Context) error {
			vm, err := s.DescribeVM(ctx, c.forked)
			if err == nil && (vm.ParentCommitID != c.commit || vm.Storage != "ephemeral") {
				err = fmt.Errorf("the fork is %+v", vm)
			}
			return err
		}},
		{"DeleteCommit", 0, func(ctx context.Context) error { return s.DeleteCommit(ctx, c.commit) }},
		{"DeleteCommit", http.StatusNotFound, func(ctx context.Context) error { return s.DeleteCommit(ctx, c.commit) }},
		{"RelaunchVM", 0, func(ctx context.Context) error {
			node, err := s.RelaunchVM(ctx, c.kept)
			if err == nil && (node.Hostname != c.kept || node.IPAddress() == nil || node.CreatedAt.IsZero()) {
				err = fmt.Errorf("the relaunched VM is %+v", node)
			}
			return err
		}},
		{"DescribeVM", 0, func(ctx context.Context) error {
			vm, err := s.DescribeVM(ctx, c.kept)
			if err == nil && (vm.Status != "Running" || vm.Storage != "persistent" || !vm.Persistent) {
				err = fmt.Errorf("the relaunched VM is %+v", vm)
			}
			return err
		}},
		{"DeleteVM", 0, func(ctx context.Context) error { return errorOf(s.DeleteVM(ctx, "sbox", c.kept)) }},
	}
}

func (c *apiCalls) makeCommit(ctx context.Context) error {
	commit, err := c.client.CommitVM(ctx, c.kept, slicer.SlicerCommitRequest{
		Tags: []string{"base"}, Labels: map[string]string{"k": "v"}, CacheKey: "key",
	})
	if err != nil {
		return err
	}
	c.commit = commit.CommitID
	if commit.Hostname != c.kept || commit.Labels["k"] != "v" || commit.Status == "" || commit.Mode == "" || commit.CreatedAt.IsZero() {
		return fmt.Errorf("the commit is %+v", commit)
	}
	return nil
}

func (c *apiCalls) listCommits(ctx context.Context) error {
	commits, err := c.client.ListCommits(ctx, slicer.ListCommitsOptions{Tag: "base", CacheKey: "key", Source: c.kept})
	if err == nil && (len(commits) != 1 || commits[0].CommitID != c.commit) {
		err = fmt.Errorf("the commits are %+v", commits)
	}
	return err
}

func (c *apiCalls) forkCommit(ctx context.Context) error {
	fork, err := c.client.ForkCommit(ctx, c.commit, slicer.SlicerForkRequest{Tags: []string{"f"}, CPUs: 1}, slicer.ForkOptions{
		Wait: "agent", Timeout: 30 * time.Second,
	})
	if err != nil {
		return err
	}
	c.forked = fork.Hostname
	if fork.SourceHostname != c.kept || fork.CommitID != c.commit || fork.Status != "Running" || fork.Mode == "" || fork.IP == "" {
		return fmt.Errorf("the fork is %+v", fork)
	}
	return nil
}

func (c *apiCalls) ends() []apiCall {
	s := c.client
	return []apiCall{
		{"Shutdown", 0, func(ctx context.Context) error { return s.Shutdown(ctx, c.second, nil) }},
		{"Shutdown", http.StatusNotFound, func(ctx context.Context) error { return s.Shutdown(ctx, "nobody", nil) }},
		{"DeleteVM", 0, func(ctx context.Context) error { return errorOf(s.DeleteVM(ctx, "sbox", c.vm)) }},
		{"DeleteVM", http.StatusNotFound, func(ctx context.Context) error { return errorOf(s.DeleteVM(ctx, "sbox", c.vm)) }},
		{"DeleteNode", http.StatusNotFound, func(context.Context) error { return s.DeleteNode("sbox", c.vm) }},
	}
}
