package slicer_test

import (
	"errors"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestCpFromVMAsksWhetherAnAmbiguousArchiveIsAFolders(t *testing.T) {
	data := archive(t, file("app", "1"))
	for name, tt := range map[string]struct {
		stat http.HandlerFunc
		want string
	}{
		"a folder":      {answer(200, "application/json", `{"name":"app","type":"directory"}`), "out/app"},
		"a file":        {answer(200, "application/json", `{"name":"app","type":"file"}`), "out"},
		"no such route": {answer(404, "text/plain", "404 page not found"), "out"},
	} {
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/fs/stat") {
				tt.stat(w, r)
				return
			}
			_, _ = w.Write(data)
		})
		dir := t.TempDir()
		err := client.CpFromVM(t.Context(), "vm-1", "/opt/app", filepath.Join(dir, "out"), "", "tar")
		got, readErr := os.ReadFile(filepath.Join(dir, tt.want))
		if err != nil || readErr != nil || string(got) != "1" {
			t.Errorf("%s: CpFromVM = %v, %s = %q, %v, want 1", name, err, tt.want, got, readErr)
		}
	}
}

func TestMissingRouteIsNotAMissingPath(t *testing.T) {
	for vmPath, message := range map[string]string{
		"/v":  "no handler for /vm/box/fs/stat",
		"/vm": "no handler for /vm/box/fs/stat",
		"/fs": "no handler for /vm/box/fs/stat",
		"/st": "no handler for /api/vm/box/fs/stat",
	} {
		client := serve(t, answer(http.StatusNotFound, "text/plain", message))
		if got, err := client.Exists(t.Context(), "box", vmPath); err == nil {
			t.Errorf("Exists(%q) = %v, nil, want an error", vmPath, got)
		}
	}
	client := serve(t, answer(http.StatusNotFound, "text/plain", "no handler: /vm."))
	if _, err := client.Stat(t.Context(), "box", "/vm"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat(/vm) = %v, want fs.ErrNotExist", err)
	}
}

func TestPagesAreNotFiles(t *testing.T) {
	client := serve(t, answer(http.StatusOK, "text/html; charset=utf-8", "<html>log in</html>"))
	if got, err := client.ReadFile(t.Context(), "box", "/f"); err == nil || !strings.Contains(err.Error(), "HTML") {
		t.Errorf("ReadFile = %q, %v, want an error about HTML", got, err)
	}
	for _, mode := range []string{"binary", "tar"} {
		err := client.CpFromVM(t.Context(), "box", "/f", filepath.Join(t.TempDir(), "f"), "", mode)
		if err == nil || !strings.Contains(err.Error(), "HTML") {
			t.Errorf("CpFromVM(%s) = %v, want an error about HTML", mode, err)
		}
	}
}

func TestStatNeedsADescription(t *testing.T) {
	for _, body := range []string{`null`, `{}`, `{"type":"file"}`} {
		client := serve(t, answer(http.StatusOK, "application/json", body))
		if ok, err := client.Exists(t.Context(), "box", "/f"); err == nil {
			t.Errorf("Exists of %s = %v, nil, want an error", body, ok)
		}
	}
	client := serve(t, answer(http.StatusOK, "application/json", `{"name":"","type":"directory"}`))
	if ok, err := client.Exists(t.Context(), "box", "/"); !ok || err != nil {
		t.Errorf("Exists(/) = %v, %v, want true", ok, err)
	}
}

func TestSecretTimesHaveManyForms(t *testing.T) {
	at := time.Unix(1700000000, 0).UTC()
	client := playback(t, exchange{`[{"name":"a","modified_at":"","mod_time":1700000000},{"name":"b","modified_at":""}]`, "GET /secrets"})
	secrets, err := client.ListSecrets(t.Context())
	check(t, "ListSecrets", secrets, err, []slicer.Secret{{Name: "a", ModifiedAt: &at}, {Name: "b"}})
}

func TestUptimesAreClamped(t *testing.T) {
	for _, number := range []string{"1e30", "99999999999999", "1e999"} {
		client := playback(t, exchange{`{"agent_uptime":` + number + `}`, "GET /vm/vm-1/health"})
		got, err := client.GetAgentHealth(t.Context(), "vm-1", true)
		check(t, "GetAgentHealth", got, err, &slicer.SlicerAgentHealthResponse{AgentUptime: math.MaxInt64})
	}
}

func TestSecretOfRootIsSent(t *testing.T) {
	client := playback(t, exchange{"", `POST /secrets {"name":"key","data":"","uid":0,"gid":0}`}, exchange{"", `PATCH /secrets/key {}`})
	if err := client.CreateSecret(t.Context(), slicer.CreateSecretRequest{Name: "key"}); err != nil {
		t.Errorf("CreateSecret = %v", err)
	}
	if err := client.PatchSecret(t.Context(), "key", slicer.UpdateSecretRequest{}); err != nil {
		t.Errorf("PatchSecret = %v", err)
	}
}
