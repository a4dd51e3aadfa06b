package slicer_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// answerKind is what a method makes of the daemon's answer.
type answerKind int

const (
	wantsJSON answerKind = iota // decodes it, or a stream of it
	wantsNone                   // takes the status alone
	wantsFile                   // takes any bytes
)

// method calls one method of the client. names are the names that become parts
// of the request's path, with harmless values; do gets them, or others.
type method struct {
	names     []string
	kind      answerKind
	emptyMay  bool // an empty name has a meaning of its own
	noContext bool
	do        func(ctx context.Context, c *slicer.SlicerClient, n []string) error
}

// errorOf drops a call's result.
func errorOf[T any](_ T, err error) error { return err }

// drain reads a channel of exec results and returns how the command ended.
func drain(results chan slicer.SlicerExecWriteResult, err error) error {
	if err != nil {
		return err
	}
	for result := range results {
		if result.Error != "" {
			err = errors.New(result.Error)
		}
	}
	return err
}

// clientMethods has every method of SlicerClient that makes requests.
func clientMethods(t *testing.T) map[string]method {
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	type client = *slicer.SlicerClient
	vm := []string{"vm-1"}
	none := []string(nil)
	methods := map[string]method{
		"GetInfo": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error { return errorOf(c.GetInfo(ctx)) }},
		"GetHostGroups": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.GetHostGroups(ctx))
		}},
		"GetHostGroupNodes": {[]string{"sbox"}, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.GetHostGroupNodes(ctx, n[0]))
		}},
		"CreateVM": {[]string{"sbox"}, wantsJSON, true, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.CreateVM(ctx, n[0], slicer.SlicerCreateNodeRequest{}))
		}},
		"CreateVMWithOptions": {[]string{"sbox"}, wantsJSON, true, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.CreateVMWithOptions(ctx, n[0], slicer.SlicerCreateNodeRequest{}, slicer.CreateVMOptions{}))
		}},
		"ListVMs": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error { return errorOf(c.ListVMs(ctx)) }},
		"ListVMsWithOptions": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: "x"}))
		}},
		"DeleteVM": {[]string{"sbox", "vm-1"}, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.DeleteVM(ctx, n[0], n[1]))
		}},
		"DeleteNode": {[]string{"sbox", "vm-1"}, wantsJSON, false, true, func(_ context.Context, c client, n []string) error {
			return c.DeleteNode(n[0], n[1])
		}},
		"DescribeVM": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.DescribeVM(ctx, n[0]))
		}},
		"GetVMStats": {vm, wantsJSON, true, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.GetVMStats(ctx, n[0]))
		}},
		"GetVMLogs": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.GetVMLogs(ctx, n[0], 0))
		}},
		"GetAgentHealth": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.GetAgentHealth(ctx, n[0], false))
		}},
		"GetVMTags": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.GetVMTags(ctx, n[0]))
		}},
		"AddVMTags": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.AddVMTags(ctx, n[0], "x"))
		}},
		"RemoveVMTags": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.RemoveVMTags(ctx, n[0], "x"))
		}},
		"ReplaceVMTags": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ReplaceVMTags(ctx, n[0]))
		}},
		"PauseVM":   {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error { return c.PauseVM(ctx, n[0]) }},
		"ResumeVM":  {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error { return c.ResumeVM(ctx, n[0]) }},
		"SuspendVM": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error { return c.SuspendVM(ctx, n[0]) }},
		"RestoreVM": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error { return c.RestoreVM(ctx, n[0]) }},
		"RestoreVMWithOptions": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.RestoreVMWithOptions(ctx, n[0], slicer.RestoreOptions{Wait: "agent"})
		}},
		"Shutdown": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error { return c.Shutdown(ctx, n[0], nil) }},
		"RelaunchVM": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.RelaunchVM(ctx, n[0]))
		}},
		"CommitVM": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.CommitVM(ctx, n[0], slicer.SlicerCommitRequest{}))
		}},
		"ListCommits": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.ListCommits(ctx, slicer.ListCommitsOptions{}))
		}},
		"DeleteCommit": {[]string{"c1"}, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.DeleteCommit(ctx, n[0])
		}},
		"ForkCommit": {[]string{"c1"}, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ForkCommit(ctx, n[0], slicer.SlicerForkRequest{}, slicer.ForkOptions{}))
		}},
	}
	maps.Copy(methods, execMethods())
	maps.Copy(methods, fileMethods(local))
	maps.Copy(methods, secretMethods())
	return methods
}

// execMethods are those that run commands.
func execMethods() map[string]method {
	type client = *slicer.SlicerClient
	vm, exec := []string{"vm-1"}, []string{"vm-1", "ex_1"}
	req := slicer.SlicerExecRequest{Command: "true"}
	return map[string]method{
		"Exec": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return drain(c.Exec(ctx, n[0], req))
		}},
		"ExecWithReader": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return drain(c.ExecWithReader(ctx, n[0], req, strings.NewReader("in")))
		}},
		"Command": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return c.Command(ctx, n[0], "true").Run()
		}},
		"CommandContext": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return c.CommandContext(ctx, n[0], "true").Run()
		}},
		"ExecBuffered": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ExecBuffered(ctx, n[0], req))
		}},
		"ExecBackground": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ExecBackground(ctx, n[0], req, slicer.ExecBackgroundOptions{}))
		}},
		"ExecList": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ExecList(ctx, n[0]))
		}},
		"ExecInfo": {exec, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ExecInfo(ctx, n[0], n[1]))
		}},
		"ExecLogs": {exec, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return drain(c.ExecLogs(ctx, n[0], n[1], slicer.ExecLogsOptions{}))
		}},
		"ExecLogsSeq": {exec, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			for _, err := range c.ExecLogsSeq(ctx, n[0], n[1], slicer.ExecLogsOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		"ExecKill": {exec, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ExecKill(ctx, n[0], n[1], slicer.ExecBackgroundKillRequest{}))
		}},
		"ExecWaitExit": {exec, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ExecWaitExit(ctx, n[0], n[1], 0))
		}},
		"ExecDelete": {exec, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ExecDelete(ctx, n[0], n[1]))
		}},
	}
}

// fileMethods are those that use a VM's files.
func fileMethods(local string) map[string]method {
	type client = *slicer.SlicerClient
	vm := []string{"vm-1"}
	return map[string]method{
		"CpToVM": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.CpToVM(ctx, n[0], local, "/tmp/x", 0, 0, "", "binary")
		}},
		"CpFSToVM": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.CpFSToVM(ctx, n[0], os.DirFS(filepath.Dir(local)), "file", "/tmp/x", 0, 0, "", "tar")
		}},
		"CpFromVM": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return c.CpFromVM(ctx, n[0], "/tmp/x", local+".copy", "", "tar")
		}},
		"CpFromVMToRoot": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			root, err := os.OpenRoot(filepath.Dir(local))
			if err != nil {
				return err
			}
			defer root.Close()
			return c.CpFromVMToRoot(ctx, n[0], "/tmp/x", root, slicer.CpRootOptions{})
		}},
		"OpenFile": {vm, wantsFile, false, false, func(ctx context.Context, c client, n []string) error {
			file, err := c.OpenFile(ctx, n[0], "/tmp/x")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, file)
			return errors.Join(err, file.Close())
		}},
		"ReadFile": {vm, wantsFile, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ReadFile(ctx, n[0], "/tmp/x"))
		}},
		"WriteFile": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.WriteFile(ctx, n[0], "/tmp/x", []byte("content"), 0, 0, 0)
		}},
		"ReadDir": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ReadDir(ctx, n[0], "/tmp"))
		}},
		"Stat": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.Stat(ctx, n[0], "/tmp"))
		}},
		"Exists": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.Exists(ctx, n[0], "/tmp"))
		}},
		"Mkdir": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.Mkdir(ctx, n[0], "/tmp/x", 0)
		}},
		"MkdirAll": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.MkdirAll(ctx, n[0], "/tmp/x", 0)
		}},
		"Remove": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.Remove(ctx, n[0], "/tmp/x")
		}},
		"RemoveAll": {vm, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.RemoveAll(ctx, n[0], "/tmp/x")
		}},
		"FS": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(fs.Stat(c.FS(ctx, n[0], "/tmp"), "x"))
		}},
		"WatchFS": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			events, err := c.WatchFS(ctx, n[0], slicer.SlicerFSWatchRequest{Paths: []string{"/tmp"}})
			if err != nil {
				return err
			}
			for event := range events {
				err = event.Err
			}
			return err
		}},
		"WatchFSSeq": {vm, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			for _, err := range c.WatchFSSeq(ctx, n[0], slicer.SlicerFSWatchRequest{Paths: []string{"/tmp"}}) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		"UpgradeVM": {[]string{"vm-1", "forward"}, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			resp, err := c.UpgradeVM(ctx, n[0], n[1], nil, nil)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}},
	}
}

// secretMethods are those that keep secrets and look after the egress proxy.
func secretMethods() map[string]method {
	type client = *slicer.SlicerClient
	none := []string(nil)
	return map[string]method{
		"CreateSecret": {none, wantsNone, false, false, func(ctx context.Context, c client, _ []string) error {
			return c.CreateSecret(ctx, slicer.CreateSecretRequest{Name: "s", Data: "v"})
		}},
		"ListSecrets": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.ListSecrets(ctx))
		}},
		"PatchSecret": {[]string{"s"}, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.PatchSecret(ctx, n[0], slicer.UpdateSecretRequest{Data: "v"})
		}},
		"DeleteSecret": {[]string{"s"}, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.DeleteSecret(ctx, n[0])
		}},
		"ListProxyClients": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.ListProxyClients(ctx))
		}},
		"CreateProxyClient": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.CreateProxyClient(ctx, slicer.CreateProxyClientRequest{Name: "agent"}))
		}},
		"DeleteProxyClient": {[]string{"agent"}, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.DeleteProxyClient(ctx, n[0])
		}},
		"ListProxyAllowRules": {[]string{"agent"}, wantsJSON, false, false, func(ctx context.Context, c client, n []string) error {
			return errorOf(c.ListProxyAllowRules(ctx, n[0]))
		}},
		"AddProxyAllowRule": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.AddProxyAllowRule(ctx, slicer.AddProxyAllowRequest{Client: "agent", Host: "*"}))
		}},
		"RemoveProxyAllowRule": {[]string{"agent", "*.example.com"}, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.RemoveProxyAllowRule(ctx, n[0], n[1])
		}},
		"ListProxySecrets": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.ListProxySecrets(ctx))
		}},
		"CreateProxySecret": {none, wantsJSON, false, false, func(ctx context.Context, c client, _ []string) error {
			return errorOf(c.CreateProxySecret(ctx, slicer.CreateProxySecretRequest{Name: "s", Host: "h", Value: "v"}))
		}},
		"DeleteProxySecret": {[]string{"s"}, wantsNone, false, false, func(ctx context.Context, c client, n []string) error {
			return c.DeleteProxySecret(ctx, n[0])
		}},
	}
}

func TestMethodTableIsComplete(t *testing.T) {
	noRequest := []string{"CloseIdleConnections"}
	methods := clientMethods(t)
	var has []string
	for m := range reflect.TypeFor[*slicer.SlicerClient]().Methods() {
		has = append(has, m.Name)
	}
	listed := slices.Sorted(maps.Keys(methods))
	listed = append(listed, noRequest...)
	slices.Sort(listed)
	if diff := cmp.Diff(has, listed); diff != "" {
		t.Errorf("clientMethods differs from the client's methods (-client +table):\n%s", diff)
	}
}
