package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// VMs get the addresses from firstHost to lastHost of subnet; that is also
// how many there can be.
const (
	subnet    = "192.168.137."
	firstHost = 2
	lastHost  = 254
	maxVMs    = lastHost - firstHost + 1
)

// nameTag is the tag that gives a VM its friendly name.
const nameTag = "name="

// vmTable holds the daemon's VMs: those that can be found, those that are
// booting and only hold their name, address and tags, and those whose guest has
// ended, of which nothing is known any more but why they ended and that they are to be
// cleaned up.
type vmTable struct {
	mu      sync.Mutex
	vms     map[string]*vm // by hostname, booting ones too
	found   map[string]bool
	ended   map[*vm]bool
	past    past
	hosts   map[int]bool   // addresses in use
	counted map[string]int // by group: the highest number that a VM has or had
	booted  map[string]int // by group: boots that were begun
	serial  int
}

func newVMTable() *vmTable {
	return &vmTable{
		vms:     make(map[string]*vm),
		found:   make(map[string]bool),
		ended:   make(map[*vm]bool),
		hosts:   make(map[int]bool),
		counted: make(map[string]int),
		booted:  make(map[string]int),
	}
}

// reserve makes the record of a VM that is about to boot: its hostname, its
// address and its friendly name are taken from now on, but nobody finds it.
func (t *vmTable) reserve(plan vmPlan) (*vm, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.checkName(plan.tags, nil); err != nil {
		return nil, err
	}
	host := plan.host
	if t.hosts[host] {
		return nil, refuse(http.StatusConflict, "the address %s%d is another VM's", subnet, host)
	}
	if host == 0 {
		var err error
		if host, err = t.freeHost(); err != nil {
			return nil, err
		}
	}
	t.hosts[host] = true
	t.counted[plan.group.Name]++
	t.booted[plan.group.Name]++
	t.serial++
	v := &vm{
		hostname:  fmt.Sprintf("%s-%d", plan.group.Name, t.counted[plan.group.Name]),
		group:     plan.group.Name,
		ip:        address(host),
		serial:    t.serial,
		cpus:      plan.cpus,
		ramBytes:  plan.ramBytes,
		createdAt: time.Now().UTC(),
		tags:      plan.tags,
		protected: plan.protected,
		grants:    plan.grants,
		userdata:  newUserdata(plan.userdata),
		console:   new(console),
		turn:      make(chan struct{}, 1),
		over:      make(chan struct{}),
		status:    statusRunning,

		override:     plan.network,
		parentCommit: plan.parentCommit,
	}
	if plan.persistent {
		v.keep = newKeeping(v)
	}
	t.vms[v.hostname] = v
	return v, nil
}

// freeHost is the lowest address that nobody has. It is called under the lock.
func (t *vmTable) freeHost() (int, error) {
	for host := firstHost; host <= lastHost; host++ {
		if !t.hosts[host] {
			return host, nil
		}
	}
	return 0, refuse(http.StatusServiceUnavailable, "all %d VM addresses are in use; delete a VM first", maxVMs)
}

// checkName refuses tags whose friendly name a VM other than v has. It is
// called under the lock.
func (t *vmTable) checkName(tags []string, v *vm) error {
	name := friendlyName(tags)
	if name == "" {
		return nil
	}
	for _, other := range t.vms {
		if other != v && friendlyName(other.tags) == name {
			return refuse(http.StatusConflict, "the tag %s%s is taken by VM %q", nameTag, name, other.hostname)
		}
	}
	return nil
}

// publish lets v be found.
func (t *vmTable) publish(v *vm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found[v.hostname] = true
}

// retire makes v, whose guest has ended, one that nobody finds. Its hostname is
// never used again, its friendly name and its address are free. It is to be
// dropped when it has been cleaned up.
func (t *vmTable) retire(v *vm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.vms[v.hostname] == v {
		t.remove(v)
		t.ended[v] = true
		t.past.add(v)
	}
}

// drop forgets v, and frees what it held.
func (t *vmTable) drop(v *vm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ended, v)
	if t.vms[v.hostname] == v {
		if t.found[v.hostname] {
			t.past.add(v)
		}
		t.remove(v)
	}
}

// remove takes v from those that hold a name. It is called under the lock.
func (t *vmTable) remove(v *vm) {
	if host, err := parseAddress(v.ip); err == nil {
		delete(t.hosts, host)
	}
	delete(t.vms, v.hostname)
	delete(t.found, v.hostname)
}

// holds reports whether v is still in the table, retired or not.
func (t *vmTable) holds(v *vm) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.vms[v.hostname] == v || t.ended[v]
}

// left returns the VMs that are to be stopped or cleaned up: those that can be
// found and the retired ones.
func (t *vmTable) left() []*vm {
	list := t.list()
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.AppendSeq(list, maps.Keys(t.ended))
}

// find returns the VM called hostname, or a 404.
func (t *vmTable) find(hostname string) (*vm, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.found[hostname] {
		if e, ok := t.past.byName[hostname]; ok {
			return nil, e.refusal(hostname)
		}
		return nil, noSuchVM(hostname)
	}
	return t.vms[hostname], nil
}

// list returns the VMs that can be found, oldest first.
func (t *vmTable) list() []*vm {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*vm, 0, len(t.found))
	for hostname := range t.found {
		list = append(list, t.vms[hostname])
	}
	slices.SortFunc(list, func(a, b *vm) int { return cmp.Compare(a.serial, b.serial) })
	return list
}

// boots is how many boots of group's VMs were begun.
func (t *vmTable) boots(group string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.booted[group]
}

// friendlyName is the x of the tag name=x, "" when there is none.
func friendlyName(tags []string) string {
	for _, tag := range tags {
		if name, ok := strings.CutPrefix(tag, nameTag); ok {
			return name
		}
	}
	return ""
}

type nodeJSON struct {
	Hostname   string    `json:"hostname"`
	HostGroup  string    `json:"hostgroup"`
	IP         string    `json:"ip"`
	RAMBytes   int64     `json:"ram_bytes"`
	CPUs       int       `json:"cpus"`
	CreatedAt  time.Time `json:"created_at"`
	Arch       string    `json:"arch"`
	Tags       []string  `json:"tags"`
	Status     string    `json:"status"`
	Persistent bool      `json:"persistent"`
}

// node is v as lists show it.
func (v *vm) node() nodeJSON {
	v.mu.Lock()
	defer v.mu.Unlock()
	return nodeJSON{
		Hostname: v.hostname, HostGroup: v.group, IP: v.ip, RAMBytes: v.ramBytes, CPUs: v.cpus,
		CreatedAt: v.createdAt, Arch: machineArch(), Tags: append([]string{}, v.tags...), Status: v.status,
		Persistent: v.keep != nil,
	}
}

// listNodes serves GET /nodes and GET /hostgroup/{group}/nodes.
func (d *Daemon) listNodes(w http.ResponseWriter, r *http.Request, q query) error {
	group := r.PathValue("group")
	if group != "" {
		if _, err := d.group(group); err != nil {
			return err
		}
	}
	matches, err := tagFilter(q)
	if err != nil {
		return err
	}
	nodes := make([]nodeJSON, 0)
	for _, v := range d.vms.list() {
		node := v.node()
		if group != "" && node.HostGroup != group || !slices.ContainsFunc(node.Tags, matches) && len(q) > 0 {
			continue
		}
		nodes = append(nodes, node)
	}
	return writeJSON(w, http.StatusOK, nodes)
}

// tagFilter says which tags a list asks for; without a filter it says no to
// every tag.
func tagFilter(q query) (func(tag string) bool, error) {
	exact, prefix := q.text("tag"), q.text("tag_prefix")
	switch {
	case q.has("tag") && q.has("tag_prefix"):
		return nil, refuse(http.StatusBadRequest, "tag and tag_prefix can't be used together")
	case q.has("tag") && exact == "", q.has("tag_prefix") && prefix == "":
		return nil, refuse(http.StatusBadRequest, "a tag filter can't be empty")
	case exact != "":
		return func(tag string) bool { return tag == exact }, nil
	case prefix != "":
		return func(tag string) bool { return strings.HasPrefix(tag, prefix) }, nil
	}
	return func(string) bool { return false }, nil
}
