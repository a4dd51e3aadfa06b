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
	Description: "Create a microVM, a Linux machine to run code in, and wait until it is up. It lives until delete_vm, its ttl or its daemon's end. Next: exec, cp_to_vm.",
	Toolset:     toolsetVMs,
	Effect:      Adds,
}, (*Toolset).createVM)

type createVMInput struct {
	Name   string   `json:"name,omitempty" jsonschema:"maxLength=63" jsonschema_description:"Unique; letters, digits, - _ ."`
	Group  string   `json:"group,omitempty" jsonschema:"maxLength=63" jsonschema_description:"Host group, of list_host_groups"`
	CPUs   int      `json:"cpus,omitempty" jsonschema:"minimum=1,maximum=1024" jsonschema_description:"Default and most: the group's"`
	RAMGiB int      `json:"ram_gib,omitempty" jsonschema:"minimum=1,maximum=65536" jsonschema_description:"Default and most: the group's"`
	Tags   []string `json:"tags,omitempty" jsonschema:"maxItems=20" jsonschema_description:"Such as job=42"`

	Persistent bool     `json:"persistent,omitempty" jsonschema:"default=false" jsonschema_description:"Keep its disk for relaunch"`
	Userdata   string   `json:"userdata,omitempty" jsonschema:"maxLength=65536" jsonschema_description:"Script that root runs at first boot"`
	Secrets    []string `json:"secrets,omitempty" jsonschema:"maxItems=50" jsonschema_description:"Names of those it gets. Default: all"`
	SSHKeys    []string `json:"ssh_keys,omitempty" jsonschema:"maxItems=20" jsonschema_description:"Public keys"`
	TTL        string   `json:"ttl,omitempty" jsonschema:"maxLength=16" jsonschema_description:"Lifetime such as 90m or 7d. Default: no end"`
	Wait       string   `json:"wait,omitempty" jsonschema:"maxLength=8,enum=agent,enum=userdata,enum=none,default=agent" jsonschema_description:"For what"`
}

// createdRecord is create_vm's answer.
type createdRecord struct {
	vmRecord
	Seconds float64 `json:"seconds"`
	Note    string  `json:"note,omitempty"` // what isn't ready, or didn't go well
	Next    string  `json:"next"`
}

// cleanupTime bounds the removal of what a failed create_vm left behind.
const cleanupTime = 4 * time.Second

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
	if err := t.checkNoSecrets(ctx, in.Secrets); err != nil {
		return Result{}, err
	}
	done, err := t.admit(ctx, creation)
	if err != nil {
		return Result{}, err
	}
	defer done()

	// A daemon that is asked to wait removes a VM that isn't up in time. This
	// one stays, so the waiting is done here.
	limited, cancel := context.WithTimeout(ctx, t.within(cleanupTime))
	defer cancel()
	made, err := t.client.CreateVMWithOptions(limited, group.Name, req, slicer.CreateVMOptions{})
	if err != nil {
		return Result{}, t.createFailed(ctx, err, group, in, creation, time.Since(began))
	}
	vm := slicer.SlicerNode{
		Hostname: made.Hostname, HostGroup: group.Name, IP: made.IP, CreatedAt: made.CreatedAt, Arch: made.Arch, Persistent: req.Persistent,
		RamBytes: orElse(req.RamBytes, group.RamBytes), CPUs: orElse(req.CPUs, group.CPUs), Tags: req.Tags,
	}
	t.sightings.saw([]slicer.SlicerNode{vm})
	ready := readiness{}
	if in.Wait != waitNone {
		if ready, err = t.awaitReady(limited, vm, in.Wait == waitUserdata && in.Userdata != "", began); err != nil {
			// Nobody would know of it.
			return Result{}, refuse("%s %s", explanation(err), t.removeCreated(ctx, creation))
		}
	}
	return t.created(vm, in, ready, began), nil
}

// created is the answer about a VM that was made.
func (t *Toolset) created(vm slicer.SlicerNode, in createVMInput, ready readiness, began time.Time) Result {
	took := time.Since(began)
	vm.Status = ready.status()
	rec := createdRecord{
		vmRecord: t.record(vm),
		Seconds:  roundedSeconds(took),
		Note:     ready.note(vm),
		Next:     ready.next(vm) + " delete_vm when done.",
	}
	if in.Wait == waitNone {
		rec.Note = ""
	}
	text := fmt.Sprintf("Created in %v s: %s", rec.Seconds, rec.vmRecord)
	if rec.Note != "" {
		text += "\n" + rec.Note
	}
	return Result{Text: text + "\n" + rec.Next, Record: rec}
}

// sandboxGroup is the host group for VMs of agents where there are several. A
// Mac's others hold the machine that its user works on.
const sandboxGroup = "sbox"

// defaultGroup is the host group for a VM that names none: the only one, else
// sandboxGroup, else "".
func defaultGroup(groups []slicer.SlicerHostGroup) string {
	if len(groups) == 1 {
		return groups[0].Name
	}
	for _, g := range groups {
		if g.Name == sandboxGroup {
			return g.Name
		}
	}
	return ""
}

// chooseGroup is the host group with that name, or the default one.
func chooseGroup(groups []slicer.SlicerHostGroup, name string) (slicer.SlicerHostGroup, error) {
	if len(groups) == 0 {
		return slicer.SlicerHostGroup{}, refuse("the daemon has no host group, so it can't create a VM. Tell the user to add one to its configuration.")
	}
	if name == "" {
		name = defaultGroup(groups)
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
		RamBytes:   slicer.GiB(int64(in.RAMGiB)),
		CPUs:       in.CPUs,
		Tags:       []string{createdBy, tagOwner + t.owner, creation},
		Persistent: in.Persistent,
		Userdata:   in.Userdata,
		Secrets:    in.Secrets,
		SSHKeys:    in.SSHKeys,
	}
	life, err := parseTTL(in.TTL)
	if err != nil {
		return req, "", err
	}
	if life > 0 {
		req.Tags = append(req.Tags, expiryTag(time.Now().Add(life)))
	}
	if err := checkSSHKeys(in.SSHKeys); err != nil {
		return req, "", err
	}
	for _, name := range in.Secrets {
		if err := checkTag(name); err != nil {
			return req, "", refuse("secret %s can't be used: %v. list_secrets shows the names.", quote(name), err)
		}
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

// checkNoSecrets refuses an empty list of secrets where there are any: whoever
// gives it means none, and the API takes it for all.
func (t *Toolset) checkNoSecrets(ctx context.Context, names []string) error {
	if names == nil || len(names) > 0 {
		return nil
	}
	secrets, err := t.client.ListSecrets(ctx)
	if err != nil || len(secrets) == 0 {
		return err
	}
	return refuse("secrets is empty, and a VM can't be given none: the daemon would give it all, %s. Name those that it may have, of list_secrets, or leave secrets out to give it all.",
		count(int64(len(secrets)), "secret"))
}

// publicKey is the beginning of a public key as authorized_keys has it.
var publicKey = regexp.MustCompile(`^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/]`)

// checkSSHKeys refuses what is no public key. The error repeats none: it may
// be a private one.
func checkSSHKeys(keys []string) error {
	const longest = 16 << 10
	for i, key := range keys {
		if len(key) > longest || strings.ContainsAny(key, "\r\n") || !publicKey.MatchString(key) {
			return refuse("ssh_keys[%d] can't be used: it must be a public key on one line, such as \"ssh-ed25519 AAAA… name\".", i)
		}
	}
	return nil
}

// createFailed says why there is no VM. When it isn't known that the daemon
// kept none, the VM is looked for by its creation tag and removed.
func (t *Toolset) createFailed(ctx context.Context, err error, group slicer.SlicerHostGroup, in createVMInput, creation string, took time.Duration) error {
	var api *slicer.APIError
	if !errors.As(err, &api) || api.StatusCode >= 500 || api.StatusCode == http.StatusRequestTimeout {
		left := t.removeCreated(ctx, creation)
		if errors.Is(err, context.DeadlineExceeded) || api != nil && api.StatusCode == http.StatusRequestTimeout {
			return refuse("the VM was not ready after %s, so the attempt was given up. %s Retry once; if it stays slow, tell the user that the daemon does.", seconds(took), left)
		}
		return refuse("%s %s", explanation(err), left)
	}
	switch api.StatusCode {
	case http.StatusBadRequest:
		if in.CPUs > group.CPUs || slicer.GiB(int64(in.RAMGiB)) > group.RamBytes {
			return refuse("the VM would be too big: host group %s gives at most %s and %s. Ask for less, or leave cpus and ram_gib out to get that.",
				quote(group.Name), count(int64(group.CPUs), "CPU"), gib(group.RamBytes))
		}
		if len(in.Secrets) > 0 && says(api, "secret") {
			return refuse("no VM was created: the daemon refused the secrets that it is to get%s. list_secrets shows their names; create_secret makes a new one.", daemonSaid(api))
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
