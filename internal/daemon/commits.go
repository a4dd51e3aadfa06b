package daemon

import "net/http"

// commits serves the calls on commits, which need disks that outlive their VM.
func (d *Daemon) commits(http.ResponseWriter, *http.Request, query) error {
	return refuse(http.StatusNotImplemented, "this daemon doesn't support commits")
}
