package slicer

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// SlicerCommitRequest describes a commit to make of a VM's disk.
type SlicerCommitRequest struct {
	Tags   []string          `json:"tags,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`

	// CacheKey is a name of one's own under which ListCommits finds the
	// commit, such as a hash of what the disk was built from.
	CacheKey string `json:"cache_key,omitempty"`
}

// SlicerCommit is an immutable disk that VMs can be forked from.
type SlicerCommit struct {
	CommitID  string            `json:"commit_id"`
	Hostname  string            `json:"hostname"`         // the VM that it was made of
	Status    string            `json:"status,omitempty"` // the daemon's word for how far it is
	Mode      string            `json:"mode,omitempty"`   // the daemon's word for how the disk is kept
	Tags      []string          `json:"tags,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	CacheKey  string            `json:"cache_key,omitempty"`
	CreatedAt time.Time         `json:"created_at,omitzero"` // zero if the daemon doesn't say
}

// ListCommitsOptions narrows a list of commits. Its zero value lists all.
type ListCommitsOptions struct {
	Tag      string // commits that have exactly this tag
	CacheKey string // commits with this cache key
	Source   string // commits of this VM
	Mode     string // commits of this mode
}

// SlicerForkRequest describes a VM to fork from a commit. Its zero value asks
// for an ephemeral VM like the one that was committed.
type SlicerForkRequest struct {
	Network *SlicerNetworkPolicy `json:"network,omitempty"` // what the VM may connect to; nil is the group's policy
	Tags    []string             `json:"tags,omitempty"`

	// TagMode is "append" to give the VM the commit's tags and Tags, or
	// "replace" for Tags alone; "" is the daemon's choice.
	TagMode string `json:"tag_mode,omitempty"`

	Secrets    []string `json:"secrets,omitempty"`    // the only secrets that the VM gets; none named is the daemon's choice
	Persistent bool     `json:"persistent,omitempty"` // keep the disk until the VM is deleted
	Fixups     []string `json:"fixups,omitempty"`     // what to put right on the disk before the first boot, in the daemon's words
	CPUs       int      `json:"vcpu,omitempty"`       // virtual CPUs; 0 is as many as the committed VM had
	RamBytes   int64    `json:"ram_bytes,omitempty"`  // memory in bytes; 0 is as much as the committed VM had
}

// ForkOptions says how long a fork call waits. Its zero value leaves that to the
// daemon.
type ForkOptions struct {
	// Wait is what to wait for: "agent" until the VM takes commands, "none"
	// for nothing, "" for what the daemon does by itself.
	Wait string

	// Timeout bounds the wait; 0 is the daemon's own bound. It needs Wait.
	Timeout time.Duration
}

// SlicerForkResponse is the daemon's answer about a VM that it forked.
type SlicerForkResponse struct {
	Hostname       string    `json:"hostname"`        // the new VM
	SourceHostname string    `json:"source_hostname"` // the VM that was committed
	CommitID       string    `json:"commit_id"`
	Status         string    `json:"status,omitempty"`
	Mode           string    `json:"mode,omitempty"`
	Persistent     bool      `json:"persistent,omitempty"`
	IP             string    `json:"ip,omitempty"` // address, perhaps with a mask
	CreatedAt      time.Time `json:"created_at,omitzero"`
}

// CommitVM makes the disk of a stopped persistent VM an immutable commit (POST
// /vm/{vm}/commit).
func (c *SlicerClient) CommitVM(ctx context.Context, hostname string, request SlicerCommitRequest) (*SlicerCommit, error) {
	var commit SlicerCommit
	err := c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"vm", hostname, "commit"}, json: request,
	}, &commit)
	if err != nil {
		return nil, fmt.Errorf("commit VM %q: %w", hostname, err)
	}
	return &commit, nil
}

// ListCommits returns the commits that opts selects (GET /vm/commits).
func (c *SlicerClient) ListCommits(ctx context.Context, opts ListCommitsOptions) ([]SlicerCommit, error) {
	query := url.Values{}
	setText(query, "tag", opts.Tag)
	setText(query, "cache_key", opts.CacheKey)
	setText(query, "source", opts.Source)
	setText(query, "mode", opts.Mode)
	var commits []SlicerCommit
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", "commits"}, query: query, prompt: true,
	}, &commits)
	if err != nil {
		return nil, fmt.Errorf("list commits: %w", err)
	}
	return commits, nil
}

// DeleteCommit removes a commit (DELETE /vm/commits/{id}). The daemon refuses
// while VMs need its disk.
func (c *SlicerClient) DeleteCommit(ctx context.Context, commitID string) error {
	err := c.call(ctx, apiRequest{method: http.MethodDelete, path: []string{"vm", "commits", commitID}, prompt: true}, nil)
	if err != nil {
		return fmt.Errorf("delete commit %q: %w", commitID, err)
	}
	return nil
}

// ForkCommit boots a new VM on a copy of a commit's disk and waits as opts asks
// (POST /vm/commits/{id}/fork).
func (c *SlicerClient) ForkCommit(ctx context.Context, commitID string, request SlicerForkRequest, opts ForkOptions) (*SlicerForkResponse, error) {
	query, err := waitQuery(opts.Wait, opts.Timeout)
	if err != nil {
		return nil, fmt.Errorf("fork commit %q: %w", commitID, err)
	}
	var fork SlicerForkResponse
	err = c.call(ctx, apiRequest{
		method: http.MethodPost, path: []string{"vm", "commits", commitID, "fork"}, query: query, json: request,
	}, &fork)
	if err != nil {
		return nil, fmt.Errorf("fork commit %q: %w", commitID, err)
	}
	return &fork, nil
}
