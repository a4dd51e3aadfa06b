package daemon

import (
	"context"
	"strings"
	"testing"
)

// oneLabel is a hypervisor that has one disk, of which it keeps the label.
type oneLabel struct {
	Hypervisor // has nothing else

	text string
}

func (o *oneLabel) LabelDisk(_ context.Context, _ string, label []byte) error {
	o.text = string(label)
	return nil
}

// A relaunch may note that its VM runs when a shutdown of that VM has noted
// the opposite and has yet to end it: a moment that calls can't be brought to
// meet in.
func TestVMThatIsAboutToEndIsNotNotedAsRunning(t *testing.T) {
	disk := &oneLabel{}
	d := &Daemon{hypervisor: disk, closing: make(chan struct{})}
	before := &vm{keep: &keeping{}, over: make(chan struct{})}
	relaunched := &vm{keep: before.keep, over: make(chan struct{})}
	for _, step := range []struct {
		name  string
		v     *vm
		state keptState
		want  keptState
	}{
		{"a create", before, keptRunning, keptRunning},
		{"a shutdown", before, keptStopped, keptStopped},
		{"the create of the VM that is shut down", before, keptRunning, keptStopped},
		{"a relaunch", relaunched, keptRunning, keptRunning},
		{"the shutdown of the relaunched VM", relaunched, keptStopped, keptStopped},
		{"the relaunch of the VM that is shut down", relaunched, keptRunning, keptStopped},
	} {
		if err := d.keepState(step.v, step.state); err != nil || !strings.Contains(disk.text, `"state":"`+string(step.want)+`"`) {
			t.Errorf("%s notes %v on the disk: %s, %v, want %v", step.name, step.state, disk.text, err, step.want)
		}
	}
}
