package daemon

import (
	"net/http"
	"runtime"
)

// healthz serves GET and HEAD /healthz, with or without a token.
func (d *Daemon) healthz(w http.ResponseWriter, _ *http.Request, _ query) error {
	return writeText(w, http.StatusOK, "OK")
}

// info serves GET /info.
func (d *Daemon) info(w http.ResponseWriter, _ *http.Request, _ query) error {
	return writeJSON(w, http.StatusOK, struct {
		Version   string `json:"version"`
		GitCommit string `json:"git_commit"`
		Platform  string `json:"platform"`
		Arch      string `json:"arch"`
	}{d.version, d.commit, runtime.GOOS, runtime.GOARCH})
}

type healthJSON struct {
	Hostname     string `json:"hostname"`
	AgentUptime  int64  `json:"agent_uptime"` // seconds
	AgentVersion string `json:"agent_version"`
	SystemUptime int64  `json:"system_uptime"` // seconds
	// UserdataRan says that no userdata is left to run, also when there was none.
	UserdataRan      bool   `json:"userdata_ran"`
	UserdataExitCode *int   `json:"userdata_exit_code,omitempty"`
	IP               string `json:"ip"`
}

// health serves GET and HEAD /vm/{vm}/health.
func (d *Daemon) health(w http.ResponseWriter, _ *http.Request, _ query, v *vm) error {
	if !v.gate.tryEnter() {
		return v.errPaused()
	}
	defer v.gate.leave()
	uptime := int64(v.guest.Uptime().Seconds())
	ran, code := v.userdata.result()
	return writeJSON(w, http.StatusOK, healthJSON{
		Hostname:         v.hostname,
		AgentUptime:      uptime,
		AgentVersion:     d.version,
		SystemUptime:     uptime,
		UserdataRan:      ran,
		UserdataExitCode: code,
		IP:               v.ip,
	})
}
