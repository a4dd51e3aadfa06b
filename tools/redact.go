package tools

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

const (
	// shortestSecret is the least length of a value, without the white space
	// around it, that can be told from ordinary text.
	shortestSecret = 4

	// mostKnown and mostKnownBytes bound what is remembered of values.
	mostKnown      = 4096
	mostKnownBytes = 4 << 20

	// namedRedactions is how many of a text's redactions have a name; short
	// values that come often must not make a text much longer.
	namedRedactions = 200
)

var (
	errShortSecret = fmt.Errorf("it has fewer than %d characters", shortestSecret)
	errKnowsEnough = errors.New("this server remembers as many values as it can")
)

// redactor replaces the values that it knows in texts: as they are, line by
// line, in base64, percent-encoded and escaped for JSON; wrapped over lines; and
// the part of one at the edge of a text, where its other part is on another
// page. It doesn't see through what a program does to a value on purpose, such
// as reversing it.
//
// What it knows ends with the process: a new one knows what it was configured
// with and what it sets itself.
type redactor struct {
	mu    sync.RWMutex
	known []*knownSecret // oldest first
	bytes int            // of their values
	plain *secretIndex
	coded *secretIndex // in base64
}

// knownSecret is a value that must not leave.
type knownSecret struct {
	name  string
	value string // without white space around it
	live  bool   // VMs may have it; one that isn't may be forgotten
	was   bool   // live before it was learnt last
}

func newRedactor() *redactor {
	return &redactor{plain: newSecretIndex(), coded: newSecretIndex()}
}

// learn makes a value known under a name, and earlier ones stay so. It is to be
// called before anybody else gets the value; settle says how that went.
func (r *redactor) learn(name, value string) (*knownSecret, error) {
	k := &knownSecret{name: name, value: strings.TrimSpace(value), live: true}
	if len(k.value) < shortestSecret {
		return nil, errShortSecret
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.known, func(o *knownSecret) bool { return o.name == k.name && o.value == k.value })
	if i >= 0 {
		k = r.known[i]
		k.was, k.live = k.live, true
		return k, nil
	}
	if !r.makeRoom(len(k.value)) {
		return nil, errKnowsEnough
	}
	r.known = append(r.known, k)
	r.bytes += len(k.value)
	r.index(k)
	return k, nil
}

// settle says that k is what its secret is now, or that it didn't become it.
func (r *redactor) settle(k *knownSecret, set bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !set {
		k.live = k.was
		return
	}
	for _, o := range r.known {
		if o.name == k.name {
			o.live = o == k
		}
	}
}

// retire says that a secret is no more. Its value may still be about.
func (r *redactor) retire(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.known {
		if k.name == name {
			k.live = false
		}
	}
}

// makeRoom forgets the oldest values that no secret has any more until size
// bytes fit. It is called under the lock.
func (r *redactor) makeRoom(size int) bool {
	fits := func() bool { return len(r.known) < mostKnown && r.bytes+size <= mostKnownBytes }
	if fits() {
		return true
	}
	for i := 0; i < len(r.known) && !fits(); {
		if r.known[i].live {
			i++
			continue
		}
		r.bytes -= len(r.known[i].value)
		r.known = slices.Delete(r.known, i, i+1)
	}
	r.plain, r.coded = newSecretIndex(), newSecretIndex()
	for _, k := range r.known {
		r.index(k)
	}
	return fits()
}

// index adds the forms of k. It is called under the lock.
func (r *redactor) index(k *knownSecret) {
	for _, f := range plainForms(k.value) {
		f.secret = k
		r.plain.add(f)
	}
	for _, f := range base64Forms(k.value) {
		f.secret = k
		r.coded.add(f)
	}
}

// text is s without the values that are known.
func (r *redactor) text(s string) string {
	if len(s) < shortestSecret {
		return s
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.known) == 0 {
		return s
	}
	text := []byte(s)
	spans := r.plain.find(text, nil)
	spans = r.coded.find(foldBase64(text), spans)
	if len(spans) == 0 {
		return s
	}
	var b strings.Builder
	at := 0
	for i, sp := range joined(spans) {
		b.WriteString(s[at:sp.from])
		b.WriteString(r.label(sp.secret, i))
		at = sp.to
	}
	b.WriteString(s[at:])
	return b.String()
}

// label stands for the nth value in a text. A name that itself tells a value
// isn't said.
func (r *redactor) label(k *knownSecret, n int) string {
	name := oneLine(k.name, 64)
	told := slices.ContainsFunc(r.known, func(o *knownSecret) bool { return strings.Contains(k.name, o.value) })
	switch {
	case n >= namedRedactions:
		return "[redacted]"
	case told:
		return "[redacted secret]"
	}
	return "[redacted secret " + name + "]"
}

// joined merges the spans that overlap, each under the name of its longest, and
// orders them.
func joined(spans []secretSpan) []secretSpan {
	slices.SortFunc(spans, func(a, b secretSpan) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return b.to - a.to
	})
	out := spans[:1]
	longest := spans[0].to - spans[0].from
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		length := s.to - s.from
		if s.from >= last.to {
			out = append(out, s)
			longest = length
			continue
		}
		last.to = max(last.to, s.to)
		if length > longest {
			longest, last.secret = length, s.secret
		}
	}
	return out
}
