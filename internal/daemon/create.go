package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// defaultWait is how long a VM may take to be ready when a call doesn't say.
	defaultWait = 5 * time.Minute
	maxWait     = time.Hour

	maxTags     = 64
	maxTagBytes = 256
)

// createJSON is the body of a create call. Fields that name what this daemon
// doesn't do are there so that they are refused by name.
type createJSON struct {
	RAMBytes int64    `json:"ram_bytes"`
	CPUs     int      `json:"cpus"`
	GPUCount int      `json:"gpu_count"`
	Userdata string   `json:"userdata"`
	Tags     []string `json:"tags"`
	Secrets  []string `json:"secrets"`

	Hostname   string         `json:"hostname"`
	IP         string         `json:"ip"`
	Persistent bool           `json:"persistent"`
	Protected  bool           `json:"protected"`
	DiskImage  string         `json:"disk_image"`
	ImportUser string         `json:"import_user"`
	SSHKeys    []string       `json:"ssh_keys"`
	PCIDevices []string       `json:"pci_devices"`
	Network    map[string]any `json:"network"`
}

// unsupported names the field that asks for what this daemon doesn't do.
func (c *createJSON) unsupported() string {
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"hostname", c.Hostname != ""},
		{"ip", c.IP != ""},
		{"persistent", c.Persistent},
		{"protected", c.Protected},
		{"disk_image", c.DiskImage != ""},
		{"import_user", c.ImportUser != ""},
		{"ssh_keys", len(c.SSHKeys) > 0},
		{"pci_devices", len(c.PCIDevices) > 0},
		{"network", len(c.Network) > 0},
	} {
		if field.set {
			return field.name
		}
	}
	return ""
}

// vmPlan is a checked request for a VM.
type vmPlan struct {
	group     *HostGroup
	cpus      int
	ramBytes  int64
	tags      []string
	grants    []string // nil is every secret
	userdata  string
	protected bool
}

// plan checks a create call's body against the group's limits.
func (d *Daemon) plan(g *HostGroup, c *createJSON) (vmPlan, error) {
	if field := c.unsupported(); field != "" {
		return vmPlan{}, refuse(http.StatusNotImplemented, "this daemon doesn't support %s", field)
	}
	for _, size := range []struct {
		name        string
		want, limit int64
	}{
		{"cpus", int64(c.CPUs), int64(g.CPUs)},
		{"ram_bytes", c.RAMBytes, g.RAMBytes},
		{"gpu_count", int64(c.GPUCount), int64(g.GPUCount)},
	} {
		if size.want < 0 {
			return vmPlan{}, refuse(http.StatusBadRequest, "%s can't be negative", size.name)
		}
		if size.want > size.limit {
			return vmPlan{}, refuse(http.StatusBadRequest, "%s %d is more than the limit of host group %q, which is %d",
				size.name, size.want, g.Name, size.limit)
		}
	}
	if err := checkTags(c.Tags); err != nil {
		return vmPlan{}, err
	}
	p := vmPlan{group: g, cpus: c.CPUs, ramBytes: c.RAMBytes, tags: c.Tags, userdata: c.Userdata}
	if p.cpus == 0 {
		p.cpus = g.CPUs
	}
	if p.ramBytes == 0 {
		p.ramBytes = g.RAMBytes
	}
	if len(c.Secrets) > 0 {
		p.grants = c.Secrets
	}
	return p, d.secrets.check(p.grants)
}

func checkTags(tags []string) error {
	if len(tags) > maxTags {
		return refuse(http.StatusBadRequest, "%d tags are more than the limit, which is %d", len(tags), maxTags)
	}
	named := false
	for i, tag := range tags {
		switch {
		case tag == "" || tag == nameTag:
			return refuse(http.StatusBadRequest, "tag %d is empty", i+1)
		case len(tag) > maxTagBytes:
			return refuse(http.StatusBadRequest, "tag %d is longer than %d bytes", i+1, maxTagBytes)
		case !utf8.ValidString(tag) || strings.ContainsFunc(tag, unicode.IsControl):
			return refuse(http.StatusBadRequest, "tag %q has characters that a tag can't have", tag)
		case slices.Contains(tags[:i], tag):
			return refuse(http.StatusBadRequest, "tag %q is there twice", tag)
		}
		if strings.HasPrefix(tag, nameTag) {
			if named {
				return refuse(http.StatusBadRequest, "a VM has one name; there are several tags %sx", nameTag)
			}
			named = true
		}
	}
	return nil
}

// parseWait reads what a create call waits for, and for how long.
func parseWait(q query) (forUserdata bool, limit time.Duration, err error) {
	limit = defaultWait
	switch wait := q.text("wait"); wait {
	case "", "agent":
	case "userdata":
		forUserdata = true
	default:
		return false, 0, refuse(http.StatusBadRequest, "wait must be agent or userdata, not %q", wait)
	}
	text := q.text("timeout")
	if text == "" {
		return forUserdata, limit, nil
	}
	if q.text("wait") == "" {
		return false, 0, refuse(http.StatusBadRequest, "timeout needs wait")
	}
	limit, err = time.ParseDuration(text)
	if err != nil || limit <= 0 || limit > maxWait {
		return false, 0, refuse(http.StatusBadRequest, "timeout must be a duration such as 30s, %s at most, not %q", maxWait, text)
	}
	return forUserdata, limit, nil
}

// createNode serves POST /hostgroup/{group}/nodes. It always waits for the
// agent, and removes the VM again when it isn't ready in time or the client
// goes away before.
func (d *Daemon) createNode(w http.ResponseWriter, r *http.Request, q query) error {
	g, err := d.group(r.PathValue("group"))
	if err != nil {
		return err
	}
	forUserdata, limit, err := parseWait(q)
	if err != nil {
		return err
	}
	var body createJSON
	if err := readJSON(w, r, maxJSONData, &body); err != nil {
		return err
	}
	plan, err := d.plan(g, &body)
	if err != nil {
		return err
	}

	ctx, unbind := bind(r.Context(), d.closing, errClosed, nil)
	defer unbind()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, refuse(http.StatusRequestTimeout,
		"the VM was not ready within %s and has been removed", limit))
	defer cancel()
	v, err := d.boot(ctx, plan)
	if err != nil {
		return err
	}
	if forUserdata {
		if err := v.userdata.wait(ctx, v.over); err != nil {
			d.undo(v)
			return fmt.Errorf("wait for the userdata of VM %q: %w", v.hostname, err)
		}
	}
	d.log.Info("VM created", "vm", v.hostname, "cpus", v.cpus, "ram_bytes", v.ramBytes)
	return writeJSON(w, http.StatusCreated, struct {
		Hostname  string    `json:"hostname"`
		HostGroup string    `json:"hostgroup"`
		IP        string    `json:"ip"`
		CreatedAt time.Time `json:"created_at"`
		Arch      string    `json:"arch"`
	}{v.hostname, v.group, v.ip, v.createdAt, machineArch()})
}

// boot makes the VM of a plan and lets it be found. When it returns an error
// nothing of the VM is left; the error is ctx's cause when ctx ended.
func (d *Daemon) boot(ctx context.Context, plan vmPlan) (*vm, error) {
	v, err := d.vms.reserve(plan)
	if err != nil {
		return nil, err
	}
	files, versions := d.secrets.granted(v.grants)
	v.pushed = versions
	v.guest, err = d.hypervisor.Boot(ctx, GuestSpec{
		Hostname: v.hostname, CPUs: v.cpus, RAMBytes: v.ramBytes, Secrets: files,
	})
	if err != nil {
		d.vms.drop(v)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("boot VM %q: %w", v.hostname, err)
	}
	if ctx.Err() != nil {
		d.undo(v)
		return nil, fmt.Errorf("boot VM %q: %w", v.hostname, context.Cause(ctx))
	}
	d.vms.publish(v) // before anybody takes it away again
	d.tasks.Go(func() { d.watch(v) })
	d.pushSecrets(ctx, v) // those that changed while it booted
	if v.userdata.script != "" {
		d.tasks.Go(func() { d.runUserdata(v) })
	}
	if isClosed(d.closing) {
		d.undo(v)
		return nil, errClosed
	}
	return v, nil
}

// undo removes a VM that nobody was told of.
func (d *Daemon) undo(v *vm) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := d.destroy(ctx, v); err != nil && !errors.Is(err, errGone) {
		d.log.Error("unfinished VM could not be removed", "vm", v.hostname, "err", err)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
