package daemon

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"
)

// forkJSON is the body of a fork call.
type forkJSON struct {
	Network    *policyJSON `json:"network"`
	Tags       []string    `json:"tags"`
	TagMode    string      `json:"tag_mode"`
	Secrets    []string    `json:"secrets"`
	Persistent bool        `json:"persistent"`
	Fixups     []string    `json:"fixups"`
	VCPU       int         `json:"vcpu"`
	RAMBytes   int64       `json:"ram_bytes"`
}

// planFork checks a fork call's body. What it leaves out is as it was with the
// VM that was committed, as far as the group still allows.
func (d *Daemon) planFork(c commitLabel, f *forkJSON) (vmPlan, error) {
	g, err := d.group(c.HostGroup)
	if err != nil {
		return vmPlan{}, refuse(http.StatusConflict, "commit %q is of host group %q, which this daemon doesn't have", c.ID, c.HostGroup)
	}
	if len(f.Fixups) > 0 {
		return vmPlan{}, refuse(http.StatusNotImplemented, "this daemon doesn't know the fixup %.100q", f.Fixups[0])
	}
	tags, err := f.tags(c)
	if err != nil {
		return vmPlan{}, err
	}
	if err := g.checkSizes([]sizeLimit{
		{"vcpu", int64(f.VCPU), int64(g.CPUs)},
		{"ram_bytes", f.RAMBytes, g.RAMBytes},
	}); err != nil {
		return vmPlan{}, err
	}
	if f.VCPU == 0 {
		f.VCPU = min(c.CPUs, g.CPUs)
	}
	if f.RAMBytes == 0 {
		f.RAMBytes = min(c.RAMBytes, g.RAMBytes)
	}
	plan, err := d.plan(g, &createJSON{
		CPUs: f.VCPU, RAMBytes: f.RAMBytes, Tags: tags, Secrets: f.Secrets, Persistent: f.Persistent, Network: f.Network,
	})
	if plan.grants == nil {
		plan.grants = c.Secrets
	}
	plan.base, plan.parentCommit = commitDisk+c.ID, c.ID
	return plan, err
}

// tags are the tags of the fork: the body's, after those of the commit unless
// they replace them. A friendly name is one VM's, and is not handed on.
func (f *forkJSON) tags(c commitLabel) ([]string, error) {
	switch f.TagMode {
	case "replace":
		return f.Tags, nil
	case "", "append":
	default:
		return nil, refuse(http.StatusBadRequest, "tag_mode must be append or replace, not %.100q", f.TagMode)
	}
	if err := checkTags(f.Tags); err != nil {
		return nil, err
	}
	var tags []string
	for _, tag := range c.Tags {
		if !strings.HasPrefix(tag, nameTag) && !slices.Contains(f.Tags, tag) {
			tags = append(tags, tag)
		}
	}
	return append(tags, f.Tags...), nil
}

// parseForkWait reads for how long a fork call waits. It always waits for the
// agent, also when it need not.
func parseForkWait(q query) (time.Duration, error) {
	switch wait := q.text("wait"); wait {
	case "", "agent", "none":
		return parseTimeout(q)
	default:
		return 0, refuse(http.StatusBadRequest, "wait must be agent or none, not %q", wait)
	}
}

// forkCommit serves POST /vm/commits/{id}/fork: a new VM boots on a copy of the
// commit's disk. It is removed again when it isn't ready in time or the client
// goes away before.
func (d *Daemon) forkCommit(w http.ResponseWriter, r *http.Request, q query) error {
	limit, err := parseForkWait(q)
	if err != nil {
		return err
	}
	if err := d.checkDisks(); err != nil {
		return err
	}
	c, done, err := d.commits.fork(r.PathValue("id"))
	if err != nil {
		return err
	}
	defer done()
	var body forkJSON
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return err
	}
	plan, err := d.planFork(c, &body)
	if err != nil {
		return err
	}
	ctx, release := d.creating(r, limit)
	defer release()
	v, err := d.create(ctx, plan, false)
	if errors.Is(err, fs.ErrNotExist) && !isRefusal(err) {
		return refuse(http.StatusInternalServerError, "the disk of commit %q is gone; delete the commit", c.ID)
	}
	if err != nil {
		return err
	}
	d.log.Info("VM forked", "vm", v.hostname, "commit", c.ID)
	return writeJSON(w, http.StatusCreated, struct {
		createdJSON
		SourceHostname string `json:"source_hostname"`
		CommitID       string `json:"commit_id"`
		Status         string `json:"status"`
		Mode           string `json:"mode"`
		Persistent     bool   `json:"persistent"`
	}{v.created(), c.Hostname, c.ID, v.state(), commitCold, v.keep != nil})
}
