package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// newServer returns a daemon whose VMs' first boot ends with code, and whose
// Kubernetes is ready when it is asked for the second time.
func newServer(t *testing.T, code int) *slicertest.Server {
	asked := 0
	return slicertest.NewServer(t, slicertest.Options{
		Shell: func(_ context.Context, p *slicertest.Proc, script string) int {
			if !strings.Contains(script, "https://get.k3s.io") || p.UID != 0 {
				t.Errorf("user %d ran %q, want that root installs k3s", p.UID, script)
			}
			if code != 0 {
				fmt.Fprintln(p.Stderr, "no network")
				return code
			}
			err := p.Files().Mkdir(filepath.Dir(remoteKubeconfig))
			if err == nil {
				err = p.Files().WriteFile(remoteKubeconfig, []byte("server: "+localServer+"\n"), 0o600)
			}
			if err != nil {
				t.Error(err)
			}
			return 0
		},
		Programs: map[string]slicertest.Program{"k3s": kubectl(&asked)},
	})
}

func kubectl(asked *int) slicertest.Program {
	return func(_ context.Context, p *slicertest.Proc) int {
		*asked++
		if *asked < 2 {
			fmt.Fprintln(p.Stderr, "no resources found")
			return 1
		}
		return 0
	}
}

func TestRun(t *testing.T) {
	srv := newServer(t, 0)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	o := options{kubeconfig: kubeconfig, timeout: time.Minute}
	var out bytes.Buffer
	if err := run(t.Context(), srv.Client(), o, &out); err != nil {
		t.Fatalf("run = %v", err)
	}
	vms, err := srv.Client().ListVMs(t.Context())
	if err != nil || len(vms) != 1 {
		t.Fatalf("ListVMs = %v, %v, want one VM", vms, err)
	}
	address, _, _ := strings.Cut(vms[0].IP, "/")
	got, err := os.ReadFile(kubeconfig)
	if want := "server: https://" + address + ":6443\n"; err != nil || string(got) != want {
		t.Errorf("the kubeconfig is %q, %v, want %q", got, err, want)
	}
	if info, err := os.Stat(kubeconfig); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("Stat(kubeconfig) = %v, %v, want the permissions 0600", info, err)
	}
	if !strings.Contains(out.String(), "the cluster is ready") {
		t.Errorf("run printed %q, want that the cluster is ready", out.String())
	}
	if err := run(t.Context(), srv.Client(), o, &out); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("run with the same kubeconfig = %v, want a refusal", err)
	}
}

func TestRunReportsAScriptThatFails(t *testing.T) {
	srv := newServer(t, 7)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	err := run(t.Context(), srv.Client(), options{kubeconfig: kubeconfig, timeout: time.Minute}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "exit code 7") || !strings.Contains(err.Error(), "no network") {
		t.Errorf("run = %v, want the exit code and the console's last lines", err)
	}
	if _, err := os.Stat(kubeconfig); err == nil {
		t.Error("there is a kubeconfig, want none")
	}
}
