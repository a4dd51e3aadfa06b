package tools

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// The bounds of ttl.
const (
	shortestLife = time.Minute
	longestLife  = 30 * 24 * time.Hour
)

// wholeDays is a ttl in days.
var wholeDays = regexp.MustCompile(`^([0-9]{1,4})d$`)

// parseTTL reads the argument ttl. An empty one is 0: no end.
func parseTTL(ttl string) (time.Duration, error) {
	if ttl == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(ttl)
	if m := wholeDays.FindStringSubmatch(ttl); m != nil {
		var days int
		days, err = strconv.Atoi(m[1])
		d = time.Duration(days) * 24 * time.Hour
	}
	if err != nil || d < shortestLife || d > longestLife {
		return 0, refuse("ttl %s can't be used: it is a duration such as 90m, 2h or 7d, from 1m to 30d.", quote(ttl))
	}
	return d, nil
}

// expiryTag is the tag of a VM that may be removed at a time.
func expiryTag(at time.Time) string { return tagExpires + at.UTC().Format(time.RFC3339) }

// expiry is when vm may be removed: the latest time that its tags name. It
// reports false when they name none, or one that can't be read.
func expiry(vm slicer.SlicerNode) (at time.Time, ok bool) {
	for _, tag := range vm.Tags {
		value, is := strings.CutPrefix(tag, tagExpires)
		if !is {
			continue
		}
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return time.Time{}, false
		}
		if !ok || t.After(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// expires writes when a VM may be removed, as a time and from now.
func expires(at, now time.Time) string {
	text := at.UTC().Format(time.RFC3339)
	if left := at.Sub(now); left > 0 {
		return fmt.Sprintf("%s (in %s)", text, roughly(left))
	}
	return text + " (overdue)"
}

// roughly writes a duration for people: 45s, 12m, 1h59m, 3d4h.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// mayExpire says whether vm is one that this server may remove by itself: it
// has this owner's tag, was made by these tools, and its time is over.
func (t *Toolset) mayExpire(vm slicer.SlicerNode, now time.Time) bool {
	at, ok := expiry(vm)
	return ok && !at.After(now) && t.owned(vm) && slices.Contains(vm.Tags, createdBy)
}

// expire removes a VM whose time is over, and reports whether it is gone.
func (t *Toolset) expire(ctx context.Context, vm slicer.SlicerNode) bool {
	at, _ := expiry(vm)
	_, err := t.client.DeleteVM(ctx, groupOf(vm), vm.Hostname)
	if err != nil && !slicer.IsAPIStatus(err, http.StatusNotFound) {
		t.log.Warn("an expired vm could not be removed", "vm", vm.Hostname, "expired", at, "reason", explanation(err))
		return false
	}
	t.sightings.lost(vm, "its ttl was over and this server removed it")
	t.log.Info("removed an expired vm", "vm", vm.Hostname, "name", tagValue(vm, tagName), "expired", at)
	return true
}
