package slicer

import (
	"context"
	"fmt"
	"net/http"
)

// vmTags is the answer of the calls that read and change a VM's tags.
type vmTags struct {
	Hostname string   `json:"hostname"`
	Tags     []string `json:"tags"`
}

// tagsPatch changes a VM's tags: either Add and Remove, or Replace, which may
// be an empty list but not a nil one.
type tagsPatch struct {
	Add     []string  `json:"add,omitempty"`
	Remove  []string  `json:"remove,omitempty"`
	Replace *[]string `json:"replace,omitempty"`
}

// GetVMTags returns a VM's tags (GET /vm/{vm}/tags).
func (c *SlicerClient) GetVMTags(ctx context.Context, hostname string) ([]string, error) {
	var answer vmTags
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", hostname, "tags"}, prompt: true,
	}, &answer)
	if err != nil {
		return nil, fmt.Errorf("get tags of VM %q: %w", hostname, err)
	}
	return answer.Tags, nil
}

// AddVMTags gives a VM tags beside those that it has, all or none of them, and
// returns what it has then (PATCH /vm/{vm}/tags). The tag name=x, by which a VM
// is found, can be given once and never changed; the daemon refuses one that
// another VM has. Without tags it is GetVMTags.
func (c *SlicerClient) AddVMTags(ctx context.Context, hostname string, tags ...string) ([]string, error) {
	if len(tags) == 0 {
		return c.GetVMTags(ctx, hostname)
	}
	return c.patchTags(ctx, hostname, "add tags to", tagsPatch{Add: tags})
}

// RemoveVMTags takes tags from a VM, all or none of them, and returns what it
// has then (PATCH /vm/{vm}/tags). The tag name=x can't be taken away. Without
// tags it is GetVMTags.
func (c *SlicerClient) RemoveVMTags(ctx context.Context, hostname string, tags ...string) ([]string, error) {
	if len(tags) == 0 {
		return c.GetVMTags(ctx, hostname)
	}
	return c.patchTags(ctx, hostname, "remove tags from", tagsPatch{Remove: tags})
}

// ReplaceVMTags gives a VM these tags instead of those that it has, and returns
// them (PATCH /vm/{vm}/tags). Without tags it takes all away. A tag name=x that
// the VM has must be among them.
func (c *SlicerClient) ReplaceVMTags(ctx context.Context, hostname string, tags ...string) ([]string, error) {
	if tags == nil {
		tags = []string{}
	}
	return c.patchTags(ctx, hostname, "replace tags of", tagsPatch{Replace: &tags})
}

func (c *SlicerClient) patchTags(ctx context.Context, hostname, doing string, patch tagsPatch) ([]string, error) {
	var answer vmTags
	err := c.call(ctx, apiRequest{
		method: http.MethodPatch, path: []string{"vm", hostname, "tags"}, json: patch, prompt: true,
	}, &answer)
	if err != nil {
		return nil, fmt.Errorf("%s VM %q: %w", doing, hostname, err)
	}
	return answer.Tags, nil
}
