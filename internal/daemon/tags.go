package daemon

import (
	"net/http"
	"slices"
)

// retag gives v the tags that edit makes of its present ones, and notes them on
// its disk if that is kept. When it returns an error v has the tags that it had;
// errGone says that v is not there any more, or has been relaunched.
func (d *Daemon) retag(v *vm, edit func(tags []string) []string) ([]string, error) {
	if v.keep == nil {
		return d.vms.retag(v, edit)
	}
	v.keep.mu.Lock()
	defer v.keep.mu.Unlock()
	before := v.keep.label.Tags
	tags, err := d.vms.retag(v, edit)
	if err != nil {
		return nil, err
	}
	if err := d.relabelLocked(v.keep, func(l *vmLabel) { l.Tags = tags }); err != nil {
		d.vms.setTags(v.hostname, before)
		return nil, err
	}
	return tags, nil
}

// setTags gives the VM called hostname tags that it had before.
func (t *vmTable) setTags(hostname string, tags []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := t.vms[hostname]; v != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.tags = tags
	}
}

// retag gives v the tags that edit makes of its present ones, at once, and
// returns them. A friendly name that v has stays, and no two VMs share one.
func (t *vmTable) retag(v *vm, edit func(tags []string) []string) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vms[v.hostname] != v {
		return nil, errGone
	}
	tags := edit(slices.Clone(v.tags))
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	if name := friendlyName(v.tags); name != "" && friendlyName(tags) != name {
		return nil, refuse(http.StatusBadRequest, "the tag %s%s is VM %q's name, which can't be changed or removed", nameTag, name, v.hostname)
	}
	if err := t.checkName(tags, v); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tags = tags
	return tags, nil
}

type tagsJSON struct {
	Hostname string   `json:"hostname"`
	Tags     []string `json:"tags"`
}

// getTags serves GET /vm/{vm}/tags.
func (d *Daemon) getTags(w http.ResponseWriter, r *http.Request, _ query) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, tagsJSON{v.hostname, v.node().Tags})
}

// tagsPatch is the body of a tags call; nil is not given.
type tagsPatch struct {
	Add     []string `json:"add"`
	Remove  []string `json:"remove"`
	Replace []string `json:"replace"`
}

func (p *tagsPatch) check() error {
	switch edits := p.Add != nil || p.Remove != nil; {
	case edits && p.Replace != nil:
		return refuse(http.StatusBadRequest, "replace can't be used together with add or remove")
	case !edits && p.Replace == nil:
		return refuse(http.StatusBadRequest, "add, remove or replace is required")
	}
	for _, tag := range p.Add {
		if slices.Contains(p.Remove, tag) {
			return refuse(http.StatusBadRequest, "tag %q is both in add and in remove", tag)
		}
	}
	return nil
}

// apply is what the patch makes of tags: what is already there is not added
// again, what isn't there needs no removing.
func (p *tagsPatch) apply(tags []string) []string {
	if p.Replace != nil {
		return p.Replace
	}
	tags = slices.DeleteFunc(tags, func(tag string) bool { return slices.Contains(p.Remove, tag) })
	for _, tag := range p.Add {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// patchTags serves PATCH /vm/{vm}/tags.
func (d *Daemon) patchTags(w http.ResponseWriter, r *http.Request, _ query) error {
	if _, err := d.vms.find(r.PathValue("vm")); err != nil {
		return err
	}
	var patch tagsPatch
	if err := readJSON(w, r, maxJSON, &patch); err != nil {
		return err
	}
	if err := patch.check(); err != nil {
		return err
	}
	var tags []string
	err := d.whileThere(r.Context(), r.PathValue("vm"), func(v *vm) (err error) {
		tags, err = d.retag(v, patch.apply)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, tagsJSON{r.PathValue("vm"), tags})
}
