package slicer

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// SlicerLogsResponse is an excerpt of a VM's serial console.
type SlicerLogsResponse struct {
	Hostname string `json:"hostname"`
	Lines    int    `json:"lines"`   // how many lines were asked for
	Content  string `json:"content"` // the text; what the guest printed, control characters included
}

// GetVMLogs returns the end of a VM's serial console (GET /vm/{vm}/logs): its
// last lines lines, all of it if lines is -1, and as many as the daemon likes,
// which is 20, if lines is 0. A console of more than 32 MiB can't be had as a
// whole.
func (c *SlicerClient) GetVMLogs(ctx context.Context, hostname string, lines int) (*SlicerLogsResponse, error) {
	query := url.Values{}
	switch {
	case lines < -1:
		return nil, fmt.Errorf("get logs of VM %q: %d is not a number of lines", hostname, lines)
	case lines == -1:
		query.Set("lines", "0") // on the wire 0 is everything
	case lines > 0:
		query.Set("lines", strconv.Itoa(lines))
	}
	var logs SlicerLogsResponse
	err := c.call(ctx, apiRequest{
		method: http.MethodGet, path: []string{"vm", hostname, "logs"}, query: query, prompt: true,
	}, &logs)
	if err != nil {
		return nil, fmt.Errorf("get logs of VM %q: %w", hostname, err)
	}
	return &logs, nil
}
