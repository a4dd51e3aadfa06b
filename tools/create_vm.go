package tools

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "create_vm",
	Title:       "Create a microVM",
	Description: "Create a disposable microVM, a Linux machine of its own to run code in, and wait until it is ready. It lives until delete_vm or until its daemon ends. Next: exec, cp_to_vm.",
	Toolset:     toolsetVMs,
	Effect:      Adds,
}, (*Toolset).createVM)

type createVMInput struct {
	Name   string   `json:"name,omitempty" jsonschema:"maxLength=63" jsonschema_description:"A unique name to call it by: letters, digits, - _ and ."`
	Group  string   `json:"group,omitempty" jsonschema:"maxLength=63" jsonschema_description:"Host group to create it in. Default: the only one"`
	CPUs   int      `json:"cpus,omitempty" jsonschema:"minimum=1,maximum=1024" jsonschema_description:"Number of CPUs. Default: the group's, which is also the most"`
	RAMGiB int      `json:"ram_gib,omitempty" jsonschema:"minimum=1,maximum=65536" jsonschema_description:"Memory in GiB. Default: the group's, which is also the most"`
	Tags   []string `json:"tags,omitempty" jsonschema:"maxItems=20" jsonschema_description:"Tags to find it by, such as job=42"`
}

// createdRecord is create_vm's answer.
type createdRecord struct {
	vmRecord
	Seconds float64 `json:"seconds"`
	Next    string  `json:"next"`
}

const (
	// cleanupTime bounds the removal of what a failed create_vm left behind.
	cleanupTime = 4 * time.Second

	// answerTime is how much longer than the daemon's wait its answer is
	// waited for.
	answerTime = 3 * time.Second
)

func (t *Toolset) createVM(ctx context.Context, in createVMInput) (Result, error) {
	began := time.Now()
	groups, err := t.client.GetHostGroups(ctx)
	if err != nil {
		return Result{}, err
	}
	group, err := chooseGroup(groups, in.Group)
	if err != nil {
		return Result{}, err
	}
	req, creation, err := t.createRequest(in, groups)
	if err != nil {
		return Result{}, err
	}

	// The daemon removes a VM that isn't up in time. It is given less time
	// than this call has, so that its answer is still heard.
	limited, cancel := context.WithTimeout(ctx, t.within(cleanupTime))
	defer cancel()
	made, err := t.client.CreateVMWithOptions(limited, group.Name, req, slicer.CreateVMOptions{Wait: "agent", Timeout: t.within(cleanupTime + answerTime)})
	if err != nil {
		return Result{}, t.createFailed(ctx, err, group, in, creation, time.Since(began))
	}

	rec := createdRecord{
		vmRecord: t.record(slicer.SlicerNode{
			Hostname: made.Hostname, HostGroup: group.Name, IP: made.IP, CreatedAt: made.CreatedAt, Arch: made.Arch,
			RamBytes: orElse(req.RamBytes, group.RamBytes), CPUs: orElse(req.CPUs, group.CPUs), Tags: req.Tags, Status: "Running",
		}),
		Seconds: roundedSeconds(time.Since(began)),
	}
	rec.Next = fmt.Sprintf("Use exec(vm=%s, command=…); delete_vm when done.", quote(orElse(in.Name, made.Hostname)))
	return Result{
		Text:   fmt.Sprintf("Created in %s: %s\n%s", seconds(time.Since(began)), rec.vmRecord, rec.Next),
		Record: rec,
	}, nil
}

// chooseGroup is the host group with that name, or the only one.
func chooseGroup(groups []slicer.SlicerHostGroup, name string) (slicer.SlicerHostGroup, error) {
	if len(groups) == 0 {
		return slicer.SlicerHostGroup{}, refuse("the daemon has no host group, so it can't create a VM. Tell the user to add one to its configuration.")
	}
	if name == "" && len(groups) == 1 {
		return groups[0], nil
	}
	var listed, names []string
	for _, g := range groups {
		if g.Name == name {
			return g, nil
		}
		names = append(names, g.Name)
		listed = append(listed, fmt.Sprintf("%s (up to %s, %s)", oneLine(g.Name, 64), count(int64(g.CPUs), "CPU"), gib(g.RamBytes)))
	}
	all := strings.Join(listed, ", ")
	if name == "" {
		return slicer.SlicerHostGroup{}, refuse("there are several host groups; say which with group. There is: %s.", all)
	}
	hint := ""
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf(" Did you mean %s?", quote(near))
	}
	return slicer.SlicerHostGroup{}, refuse("no host group named %s.%s There is: %s.", quote(name), hint, all)
}

// friendlyName is the form of a VM's name.
var friendlyName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// createRequest is what the daemon is asked for, with the tag that only this
// call's VM carries.
func (t *Toolset) createRequest(in createVMInput, groups []slicer.SlicerHostGroup) (req slicer.SlicerCreateNodeRequest, creation string, err error) {
	creation = tagCreation + strings.ToLower(rand.Text()[:12])
	req = slicer.SlicerCreateNodeRequest{
		RamBytes: slicer.GiB(int64(in.RAMGiB)),
		CPUs:     in.CPUs,
		Tags:     []string{createdBy, tagOwner + t.owner, creation},
	}
	if in.Name != "" {
		if !friendlyName.MatchString(in.Name) {
			return req, "", refuse("name %s can't be used: it takes letters, digits, - _ and ., and begins and ends with a letter or digit.", quote(in.Name))
		}
		for _, g := range groups {
			if n, ok := strings.CutPrefix(in.Name, g.Name+"-"); ok && digits(n) {
				return req, "", refuse("name %s can't be used: the daemon itself names VMs like that. Choose another.", quote(in.Name))
			}
		}
		req.Tags = append(req.Tags, tagName+in.Name)
	}
	for _, tag := range in.Tags {
		if err := checkTag(tag); err != nil {
			return req, "", refuse("tag %s can't be used: %v. A tag is like key=value, up to 128 bytes.", quote(tag), err)
		}
		for _, key := range reservedTags() {
			if strings.HasPrefix(tag, key) {
				return req, "", refuse("tag %s can't be used: this server sets %s… itself. Use name for a name, or another key.", quote(tag), key)
			}
		}
		if !slices.Contains(req.Tags, tag) {
			req.Tags = append(req.Tags, tag)
		}
	}
	return req, creation, nil
}

// createFailed says why there is no VM. When it isn't known that the daemon
// kept none, the VM is looked for by its creation tag and removed.
func (t *Toolset) createFailed(ctx context.Context, err error, group slicer.SlicerHostGroup, in createVMInput, creation string, took time.Duration) error {
	var api *slicer.APIError
	if !errors.As(err, &api) || api.StatusCode >= 500 {
		left := t.removeCreated(ctx, creation)
		if errors.Is(err, context.DeadlineExceeded) {
			return refuse("the VM was not ready after %s, so the attempt was given up. %s Retry once; if it stays slow, tell the user that the daemon does.", seconds(took), left)
		}
		return refuse("%s %s", explanation(err), left)
	}
	switch api.StatusCode {
	case http.StatusRequestTimeout:
		return refuse("the VM was not ready after %s, so the daemon removed it. Retry once; if it stays slow, tell the user that the daemon does.", seconds(took))
	case http.StatusBadRequest:
		if in.CPUs > group.CPUs || slicer.GiB(int64(in.RAMGiB)) > group.RamBytes {
			return refuse("the VM would be too big: host group %s gives at most %s and %s. Ask for less, or leave cpus and ram_gib out to get that.",
				quote(group.Name), count(int64(group.CPUs), "CPU"), gib(group.RamBytes))
		}
	case http.StatusConflict:
		if in.Name != "" {
			return refuse("the name %s is taken by another VM%s. Choose another name, or use that VM: list_vms(all=true) shows it.", quote(in.Name), daemonSaid(api))
		}
	}
	return err
}

// removeCreated deletes the VM with the creation tag, if there is one, also
// when ctx has ended. It returns a sentence about what is left.
func (t *Toolset) removeCreated(ctx context.Context, creation string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	vms, err := t.client.ListVMsWithOptions(ctx, slicer.ListOptions{Tag: creation})
	if err != nil {
		t.log.Warn("look for a half-made vm", "tag", creation, "reason", explanation(err))
		return "Whether it left a VM could not be seen: list_vms tells."
	}
	for _, vm := range vms {
		// A daemon that doesn't know the query would list everybody's.
		if !slices.Contains(vm.Tags, creation) {
			continue
		}
		if _, err := t.client.DeleteVM(ctx, groupOf(vm), vm.Hostname); err != nil && !slicer.IsAPIStatus(err, http.StatusNotFound) {
			t.log.Warn("remove a half-made vm", "vm", vm.Hostname, "reason", explanation(err))
			return fmt.Sprintf("VM %s is left and could not be removed: call delete_vm(vm=%s).", quote(vm.Hostname), quote(vm.Hostname))
		}
	}
	return "No VM is left of it."
}

// digits says whether s is a number.
func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// orElse is v, or other when v is its type's zero value.
func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// roundedSeconds is d in seconds, to the millisecond.
func roundedSeconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}
