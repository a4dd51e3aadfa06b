package daemon

import "net/http"

// The ways in which a VM's description says that it is connected.
const (
	// NetworkIsolated is a network of the VM's own that leads nowhere.
	NetworkIsolated = "isolated"
	// NetworkHost is the network of the machine.
	NetworkHost = "host"
)

// describeJSON is a VM's description: the node's fields and more.
type describeJSON struct {
	nodeJSON
	Storage        string      `json:"storage"` // what becomes of the disk
	Image          string      `json:"image"`   // what the disk began as
	CommitID       string      `json:"commit_id"`
	ParentCommitID string      `json:"parent_commit_id"`
	Network        networkJSON `json:"network"`
	Suspend        string      `json:"suspend"`    // what a suspended VM's memory becomes
	Unenforced     []string    `json:"unenforced"` // what doesn't hold for a running VM: sizes, files' owners, and why
}

type networkJSON struct {
	Mode         string      `json:"mode"`
	PolicySource string      `json:"policy_source"` // whose policy is the effective one
	HostGroup    policyJSON  `json:"host_group"`
	Override     *policyJSON `json:"override"` // of the VM's own; null when it has none
	Effective    policyJSON  `json:"effective"`
}

// policyJSON says what a VM may reach: networks as CIDRs.
type policyJSON struct {
	Allow []string `json:"allow"`
	Drop  []string `json:"drop"`
}

// policy is what a network of the given mode lets through.
func policy(mode string) policyJSON {
	all := []string{"0.0.0.0/0", "::/0"}
	if mode == NetworkHost {
		return policyJSON{Allow: all, Drop: []string{}}
	}
	return policyJSON{Allow: []string{}, Drop: all}
}

// describe serves GET /vm/{vm}.
func (d *Daemon) describe(w http.ResponseWriter, r *http.Request, _ query) error {
	v, err := d.vms.find(r.PathValue("vm"))
	if err != nil {
		return err
	}
	p := policy(d.network)
	description := describeJSON{
		nodeJSON:       v.node(),
		Storage:        "ephemeral",
		Image:          d.image,
		ParentCommitID: v.parentCommit,
		Network:        networkJSON{Mode: d.network, PolicySource: "host_group", HostGroup: p, Override: v.override, Effective: p},
		Suspend:        suspendNote,
		Unenforced:     []string{},
	}
	if v.keep != nil {
		description.Storage = "persistent"
		description.CommitID = d.commits.latest(v)
	}
	if !isClosed(v.over) {
		description.Unenforced = append(description.Unenforced, v.guest.Unenforced()...)
	}
	return writeJSON(w, http.StatusOK, description)
}
