package slicer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// SlicerVMDescription is all that a daemon tells about one VM.
type SlicerVMDescription struct {
	SlicerNode

	Storage        string           `json:"storage,omitempty"`          // how its disk is kept, such as image or zfs
	Image          string           `json:"image,omitempty"`            // what its disk was made from
	CommitID       string           `json:"commit_id,omitempty"`        // the commit that was made of it
	ParentCommitID string           `json:"parent_commit_id,omitempty"` // the commit that it was forked from
	Network        *SlicerVMNetwork `json:"network,omitempty"`          // nil if the daemon doesn't say
}

// SlicerVMNetwork says how a VM is connected and what it may connect to.
type SlicerVMNetwork struct {
	Mode         string               `json:"mode,omitempty"`          // such as bridge or isolated
	PolicySource string               `json:"policy_source,omitempty"` // where Effective comes from
	HostGroup    *SlicerNetworkPolicy `json:"host_group,omitempty"`    // the host group's policy
	Override     *SlicerNetworkPolicy `json:"override,omitempty"`      // the VM's own, nil if it has none
	Effective    *SlicerNetworkPolicy `json:"effective,omitempty"`     // what holds
}

// SlicerNetworkPolicy lists address ranges in CIDR form that a VM may and may
// not connect to.
type SlicerNetworkPolicy struct {
	Allow []string `json:"allow,omitempty"`
	Drop  []string `json:"drop,omitempty"`
}

// errCommitsName is why no VM can be called as the list of commits is.
var errCommitsName = errors.New(`"commits" is not the name of a VM`)

// DescribeVM tells about a VM what the lists leave out (GET /vm/{vm}).
func (c *SlicerClient) DescribeVM(ctx context.Context, hostname string) (*SlicerVMDescription, error) {
	if hostname == "commits" {
		return nil, fmt.Errorf("describe VM: %w", errCommitsName) // GET /vm/commits is another call
	}
	var description SlicerVMDescription
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", hostname}, prompt: true,
	}, &description)
	if err != nil {
		return nil, fmt.Errorf("describe VM %q: %w", hostname, err)
	}
	return &description, nil
}
