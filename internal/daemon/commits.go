package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxCommits is how many commits there can be.
	maxCommits = 1000
	// commitTimeout bounds the copying of a disk.
	commitTimeout = 10 * time.Minute

	maxLabels     = 64
	maxLabelKey   = 256  // bytes
	maxLabelValue = 1024 // bytes
	maxCacheKey   = 256  // bytes

	// What commits say of themselves: a commit is there when its disk is, which
	// was that of a VM that did not run.
	commitReady = "ready"
	commitCold  = "cold"
)

var commitID = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// commitStore holds the daemon's commits.
type commitStore struct {
	mu      sync.Mutex
	commits map[string]commitLabel // by id
	forking map[string]int         // by id: the forks that copy its disk now
	making  int                    // commits whose disk is being copied
}

func newCommitStore() *commitStore {
	return &commitStore{commits: make(map[string]commitLabel), forking: make(map[string]int)}
}

// reserve keeps room for one commit more. free gives it back when the commit
// has been added, or has not been made.
func (s *commitStore) reserve() (free func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.commits)+s.making >= maxCommits {
		return nil, refuse(http.StatusInsufficientStorage, "there are %d commits, which is the limit; delete one first", maxCommits)
	}
	s.making++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.making--
	}, nil
}

func (s *commitStore) add(c commitLabel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits[c.ID] = c
}

// fork returns the commit called id for a VM that is to begin with its disk.
// Until done is called nobody deletes it.
func (s *commitStore) fork(id string) (c commitLabel, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.commits[id]
	if !ok {
		return c, nil, noSuchCommit(id)
	}
	s.forking[id]++
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.forking[id]--; s.forking[id] == 0 {
			delete(s.forking, id)
		}
	}, nil
}

// take removes the commit called id, so that nobody finds it any more.
func (s *commitStore) take(id string) (commitLabel, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.commits[id]
	switch {
	case !ok:
		return c, noSuchCommit(id)
	case s.forking[id] > 0:
		return c, refuse(http.StatusConflict, "commit %q is being forked; try again", id)
	}
	delete(s.commits, id)
	return c, nil
}

// list returns the commits that match, oldest first.
func (s *commitStore) list(matches func(commitLabel) bool) []commitLabel {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]commitLabel, 0, len(s.commits))
	for _, c := range s.commits {
		if matches(c) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b commitLabel) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return list
}

// latest is the id of the last commit that was made of v, "" when there is none.
func (s *commitStore) latest(v *vm) string {
	made := s.list(func(c commitLabel) bool { return c.Hostname == v.hostname && !c.CreatedAt.Before(v.createdAt) })
	if len(made) == 0 {
		return ""
	}
	return made[len(made)-1].ID
}

func noSuchCommit(id string) error {
	return refuse(http.StatusNotFound, "no commit %q", id)
}

type commitJSON struct {
	CommitID       string            `json:"commit_id"`
	Hostname       string            `json:"hostname"`
	HostGroup      string            `json:"hostgroup"`
	Status         string            `json:"status"`
	Mode           string            `json:"mode"`
	Tags           []string          `json:"tags"`
	Labels         map[string]string `json:"labels"`
	CacheKey       string            `json:"cache_key"`
	CreatedAt      time.Time         `json:"created_at"`
	ParentCommitID string            `json:"parent_commit_id"`
}

func (l commitLabel) json() commitJSON {
	labels := l.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return commitJSON{
		CommitID: l.ID, Hostname: l.Hostname, HostGroup: l.HostGroup, Status: commitReady, Mode: commitCold,
		Tags: append([]string{}, l.Tags...), Labels: labels, CacheKey: l.CacheKey, CreatedAt: l.CreatedAt,
		ParentCommitID: l.ParentCommit,
	}
}

// checkCommit refuses what a commit can't be called.
func checkCommit(tags []string, labels map[string]string, cacheKey string) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	if len(labels) > maxLabels {
		return refuse(http.StatusBadRequest, "%d labels are more than the limit, which is %d", len(labels), maxLabels)
	}
	for key, value := range labels {
		switch {
		case key == "":
			return refuse(http.StatusBadRequest, "a label's name is empty")
		case len(key) > maxLabelKey || len(value) > maxLabelValue:
			return refuse(http.StatusBadRequest, "label %.50q is longer than %d bytes, or its value than %d", key, maxLabelKey, maxLabelValue)
		case !printable(key) || !printable(value):
			return refuse(http.StatusBadRequest, "label %q has characters that a label can't have", key)
		}
	}
	if len(cacheKey) > maxCacheKey || !printable(cacheKey) {
		return refuse(http.StatusBadRequest, "cache_key must be text of at most %d bytes, without control characters", maxCacheKey)
	}
	return nil
}

// printable reports whether s is text without control characters.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// commitVM serves POST /vm/{vm}/commit: the disk of a stopped persistent VM is
// copied. The answer comes when the commit is there.
func (d *Daemon) commitVM(w http.ResponseWriter, r *http.Request, _ query) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	var body struct {
		Tags     []string          `json:"tags"`
		Labels   map[string]string `json:"labels"`
		CacheKey string            `json:"cache_key"`
	}
	if err := readJSON(w, r, maxJSON, &body); err != nil {
		return err
	}
	if err := checkCommit(body.Tags, body.Labels, body.CacheKey); err != nil {
		return err
	}
	ctx, unbind := bind(r.Context(), d.closing, errClosed, nil)
	defer unbind()
	ctx, cancel := context.WithTimeoutCause(ctx, commitTimeout, refuse(http.StatusRequestTimeout,
		"the disk was not copied within %s; there is no commit", commitTimeout))
	defer cancel()
	c, err := d.copyDisk(ctx, v, commitLabel{
		Version: labelVersion, ID: strings.ToLower(rand.Text()), Hostname: v.hostname, HostGroup: v.group,
		CPUs: v.cpus, RAMBytes: v.ramBytes, Secrets: v.grants, ParentCommit: v.parentCommit,
		Tags: body.Tags, Labels: body.Labels, CacheKey: body.CacheKey,
	})
	if err != nil {
		return err
	}
	d.log.Info("VM committed", "vm", v.hostname, "commit", c.ID)
	return writeJSON(w, http.StatusOK, c.json())
}

// copyDisk copies v's disk to c's, while nobody changes v's state.
func (d *Daemon) copyDisk(ctx context.Context, v *vm, c commitLabel) (commitLabel, error) {
	if v.keep == nil {
		return c, refuse(http.StatusConflict, "VM %q is ephemeral; only a VM created with persistent: true can be committed", v.hostname)
	}
	free, err := d.commits.reserve()
	if err != nil {
		return c, err
	}
	defer free()
	if v.state() != statusStopped {
		return c, d.errNotStopped(v)
	}
	if err := v.lock(ctx); err != nil {
		return c, err
	}
	defer v.unlock()
	if !d.vms.holds(v) {
		return c, d.errNotStopped(v)
	}
	if err := d.release(ctx, v); err != nil {
		return c, err
	}
	c.CreatedAt = time.Now().UTC()
	text, err := json.Marshal(c)
	if err != nil {
		return c, fmt.Errorf("encode the label of a commit: %w", err)
	}
	if err := d.hypervisor.CopyDisk(ctx, v.keep.disk, commitDisk+c.ID, text); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return c, fmt.Errorf("copy the disk of VM %q: %w", v.hostname, diskRefusal(err))
	}
	d.commits.add(c)
	return c, nil
}

// errNotStopped refuses to commit the VM with v's hostname.
func (d *Daemon) errNotStopped(v *vm) error {
	now, err := d.vms.find(v.hostname)
	if err != nil {
		return err
	}
	return refuse(http.StatusConflict, "VM %q is not stopped, it is %s; shut it down first", v.hostname, now.state())
}

// listCommits serves GET /vm/commits.
func (d *Daemon) listCommits(w http.ResponseWriter, _ *http.Request, q query) error {
	for name := range q {
		if q.text(name) == "" {
			return refuse(http.StatusBadRequest, "the filter %s can't be empty", name)
		}
	}
	if err := d.checkDisks(); err != nil {
		return err
	}
	is := func(name, value string) bool { return !q.has(name) || q.text(name) == value }
	commits := d.commits.list(func(c commitLabel) bool {
		return is("cache_key", c.CacheKey) && is("source", c.Hostname) && is("mode", commitCold) &&
			(!q.has("tag") || slices.Contains(c.Tags, q.text("tag")))
	})
	list := make([]commitJSON, 0, len(commits))
	for _, c := range commits {
		list = append(list, c.json())
	}
	return writeJSON(w, http.StatusOK, list)
}

// deleteCommit serves DELETE /vm/commits/{id}. VMs that were forked from it
// stay: they have copies of its disk.
func (d *Daemon) deleteCommit(w http.ResponseWriter, r *http.Request, _ query) error {
	if err := d.checkDisks(); err != nil {
		return err
	}
	c, err := d.commits.take(r.PathValue("id"))
	if err != nil {
		return err
	}
	ctx, cancel := stopping(r)
	defer cancel()
	if err := d.hypervisor.RemoveDisk(ctx, commitDisk+c.ID); err != nil {
		d.commits.add(c)
		return fmt.Errorf("remove the disk of commit %q: %w", c.ID, diskRefusal(err))
	}
	d.log.Info("commit deleted", "commit", c.ID)
	return writeJSON(w, http.StatusOK, struct {
		CommitID string `json:"commit_id"`
		Message  string `json:"message"`
	}{c.ID, fmt.Sprintf("commit %q deleted", c.ID)})
}
