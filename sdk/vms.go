package slicer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// deleteNodeTimeout bounds DeleteNode, whose signature has no context.
const deleteNodeTimeout = 2 * time.Minute

// SlicerInfo is what the daemon says about itself at GET /info.
type SlicerInfo struct {
	Version   string `json:"version,omitempty"`    // version of the daemon
	GitCommit string `json:"git_commit,omitempty"` // commit that it was built from
	Platform  string `json:"platform,omitempty"`   // its operating system, as runtime.GOOS names it
	Arch      string `json:"arch,omitempty"`       // its architecture, as runtime.GOARCH names it
}

// SlicerHostGroup is a named pool of VMs with one hardware profile, an item of
// GET /hostgroup.
type SlicerHostGroup struct {
	Name     string `json:"name,omitempty"`
	Count    int    `json:"count,omitempty"`     // VMs that the daemon itself keeps in the group
	RamBytes int64  `json:"ram_bytes,omitempty"` // memory of a VM in bytes, and the most that one may ask for
	CPUs     int    `json:"cpus,omitempty"`      // virtual CPUs of a VM, and the most that one may ask for
	Arch     string `json:"arch,omitempty"`      // x86_64 or arm64
	GPUCount int    `json:"gpu_count,omitempty"`
}

// SlicerNode is a VM as the daemon lists it.
type SlicerNode struct {
	Hostname   string    `json:"hostname"`
	IP         string    `json:"ip"`                  // address, perhaps with a mask: 192.168.137.2/24
	RamBytes   int64     `json:"ram_bytes,omitempty"` // memory in bytes
	CPUs       int       `json:"cpus,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	Arch       string    `json:"arch,omitempty"`
	Tags       []string  `json:"tags,omitempty"`   // a tag name=x is the VM's friendly name
	Status     string    `json:"status,omitempty"` // Running, Paused, Stopped or Suspended
	HostGroup  string    `json:"hostgroup,omitempty"`
	Persistent bool      `json:"persistent,omitempty"` // survives its own end and the daemon's
}

// SlicerCreateNodeRequest describes a VM to create. Its zero value asks for an
// ephemeral VM of the group's own size.
type SlicerCreateNodeRequest struct {
	RamBytes   int64    `json:"ram_bytes,omitempty"` // memory in bytes; 0 is the group's, which is also the most
	CPUs       int      `json:"cpus,omitempty"`      // virtual CPUs; 0 is the group's, which is also the most
	GPUCount   int      `json:"gpu_count,omitempty"`
	Persistent bool     `json:"persistent,omitempty"`  // keep the disk until the VM is deleted
	DiskImage  string   `json:"disk_image,omitempty"`  // another image than the group's
	ImportUser string   `json:"import_user,omitempty"` // GitHub user whose SSH keys are let in
	SSHKeys    []string `json:"ssh_keys,omitempty"`    // public keys in authorized_keys form
	Userdata   string   `json:"userdata,omitempty"`    // script that root runs on the first boot
	IP         string   `json:"ip,omitempty"`          // a fixed address; "" lets the daemon pick
	Tags       []string `json:"tags,omitempty"`        // name=x is a unique, unchangeable friendly name
	Secrets    []string `json:"secrets,omitempty"`     // the only secrets that the VM gets; none named is all

	// Network narrows what the VM may connect to; nil is the group's policy.
	Network *SlicerNetworkPolicy `json:"network,omitempty"`
}

// SlicerCreateNodeResponse is the daemon's answer about a VM that it created.
type SlicerCreateNodeResponse struct {
	Hostname  string    `json:"hostname"`
	IP        string    `json:"ip"` // address, perhaps with a mask; see IPAddress
	CreatedAt time.Time `json:"created_at"`
	Arch      string    `json:"arch,omitempty"`
	HostGroup string    `json:"hostgroup,omitempty"`
}

// IPAddress returns the VM's address without the mask that IP may carry, or nil
// if IP holds no address.
func (n *SlicerCreateNodeResponse) IPAddress() net.IP {
	text, _, _ := strings.Cut(n.IP, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return net.IP(addr.AsSlice())
}

// SlicerDeleteResponse is the daemon's answer about a VM that it deleted.
type SlicerDeleteResponse struct {
	Message     string `json:"message"`
	DiskRemoved string `json:"disk_removed"`
	Error       string `json:"error"` // what went wrong while cleaning up after a VM that is gone
}

// CreateVMOptions says how long a create call waits. Its zero value returns as
// soon as the daemon has accepted the VM.
type CreateVMOptions struct {
	// Wait is what to wait for: "agent" until the VM takes commands,
	// "userdata" until its userdata script has ended, "" for neither.
	Wait string

	// Timeout bounds the wait; 0 is the daemon's own bound, 5 minutes. When
	// it passes, the daemon removes the VM and answers 408. It needs Wait.
	Timeout time.Duration
}

// ListOptions narrows a list of VMs. At most one field may be set; the zero
// value lists all.
type ListOptions struct {
	Tag       string // VMs that have exactly this tag
	TagPrefix string // VMs that have a tag beginning with this
}

// GetInfo returns the daemon's version and platform (GET /info).
func (c *SlicerClient) GetInfo(ctx context.Context) (*SlicerInfo, error) {
	var info SlicerInfo
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"info"}, prompt: true,
	}, &info)
	if err != nil {
		return nil, fmt.Errorf("get daemon info: %w", err)
	}
	return &info, nil
}

// GetHostGroups returns the daemon's host groups (GET /hostgroup).
func (c *SlicerClient) GetHostGroups(ctx context.Context) ([]SlicerHostGroup, error) {
	var groups []SlicerHostGroup
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"hostgroup"}, prompt: true,
	}, &groups)
	if err != nil {
		return nil, fmt.Errorf("list host groups: %w", err)
	}
	return groups, nil
}

// GetHostGroupNodes returns the VMs of one host group
// (GET /hostgroup/{group}/nodes).
func (c *SlicerClient) GetHostGroupNodes(ctx context.Context, groupName string) ([]SlicerNode, error) {
	var nodes []SlicerNode
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"hostgroup", groupName, "nodes"}, prompt: true,
	}, &nodes)
	if err != nil {
		return nil, fmt.Errorf("list VMs of host group %q: %w", groupName, err)
	}
	return nodes, nil
}

// CreateVM creates a VM in a host group and returns without waiting for it to
// boot (POST /hostgroup/{group}/nodes). It is CreateVMWithOptions with the zero
// CreateVMOptions.
func (c *SlicerClient) CreateVM(ctx context.Context, groupName string, request SlicerCreateNodeRequest) (*SlicerCreateNodeResponse, error) {
	return c.CreateVMWithOptions(ctx, groupName, request, CreateVMOptions{})
}

// CreateVMWithOptions creates a VM in a host group and waits as opts asks (POST
// /hostgroup/{group}/nodes). An empty groupName means the daemon's only host
// group; if it has none or several that is an error which names them.
func (c *SlicerClient) CreateVMWithOptions(ctx context.Context, groupName string, request SlicerCreateNodeRequest, opts CreateVMOptions) (*SlicerCreateNodeResponse, error) {
	query, err := waitQuery(opts.Wait, opts.Timeout)
	if err != nil {
		return nil, fmt.Errorf("create VM: %w", err)
	}
	if groupName == "" {
		only, err := c.onlyHostGroup(ctx)
		if err != nil {
			return nil, fmt.Errorf("create VM: %w", err)
		}
		groupName = only
	}
	var node SlicerCreateNodeResponse
	err = c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"hostgroup", groupName, "nodes"}, query: query, json: request,
	}, &node)
	if err != nil {
		return nil, fmt.Errorf("create VM in host group %q: %w", groupName, err)
	}
	return &node, nil
}

// onlyHostGroup names the daemon's host group if there is exactly one.
func (c *SlicerClient) onlyHostGroup(ctx context.Context) (string, error) {
	groups, err := c.GetHostGroups(ctx)
	if err != nil {
		return "", err
	}
	switch len(groups) {
	case 0:
		return "", errors.New("the daemon has no host group")
	case 1:
		return groups[0].Name, nil
	}
	names := make([]string, len(groups))
	for i, group := range groups {
		names[i] = group.Name
	}
	return "", fmt.Errorf("a host group must be named, there are several: %s", strings.Join(names, ", "))
}

// ListVMs returns all VMs of all host groups (GET /nodes).
func (c *SlicerClient) ListVMs(ctx context.Context) ([]SlicerNode, error) {
	return c.ListVMsWithOptions(ctx, ListOptions{})
}

// ListVMsWithOptions returns the VMs that opts selects (GET /nodes).
func (c *SlicerClient) ListVMsWithOptions(ctx context.Context, opts ListOptions) ([]SlicerNode, error) {
	query := url.Values{}
	if opts.Tag != "" && opts.TagPrefix != "" {
		return nil, errors.New("list VMs: tag and tag prefix exclude each other")
	}
	if opts.Tag != "" {
		query.Set("tag", opts.Tag)
	}
	if opts.TagPrefix != "" {
		query.Set("tag_prefix", opts.TagPrefix)
	}
	var nodes []SlicerNode
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"nodes"}, query: query, prompt: true,
	}, &nodes)
	if err != nil {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	return nodes, nil
}

// DeleteVM ends a VM and removes its disk (DELETE
// /hostgroup/{group}/nodes/{vm}). The daemon refuses with 403 to delete a VM
// that its group's count made.
func (c *SlicerClient) DeleteVM(ctx context.Context, groupName, hostname string) (*SlicerDeleteResponse, error) {
	var deleted SlicerDeleteResponse
	err := c.call(ctx, apiRequest{
		method: http.MethodDelete, path: []string{"hostgroup", groupName, "nodes", hostname}, mayBeEmpty: true,
	}, &deleted)
	if err != nil {
		return nil, fmt.Errorf("delete VM %q: %w", hostname, err)
	}
	return &deleted, nil
}

// DeleteNode is DeleteVM without its answer. It takes no context; it gives up
// after 2 minutes.
func (c *SlicerClient) DeleteNode(groupName, nodeName string) error {
	ctx, cancel := context.WithTimeout(context.Background(), deleteNodeTimeout)
	defer cancel()
	_, err := c.DeleteVM(ctx, groupName, nodeName)
	return err
}

// PauseVM stops a VM's CPUs (POST /vm/{vm}/pause). Until ResumeVM every call
// that needs its agent, such as Exec, is refused with 409.
func (c *SlicerClient) PauseVM(ctx context.Context, hostname string) error {
	return c.changeState(ctx, hostname, "pause")
}

// ResumeVM lets a paused VM go on where it stood (POST /vm/{vm}/resume).
func (c *SlicerClient) ResumeVM(ctx context.Context, hostname string) error {
	return c.changeState(ctx, hostname, "resume")
}

// changeState posts one of the verbs that move a VM from one state to another
// and are answered with text.
func (c *SlicerClient) changeState(ctx context.Context, hostname, verb string) error {
	err := c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"vm", hostname, verb},
		prompt: verb != "suspend", // which writes the memory to disk
	}, nil)
	if err != nil {
		return fmt.Errorf("%s VM %q: %w", verb, hostname, err)
	}
	return nil
}
