package daemon

import (
	"net/http"
	"slices"
	"strings"
)

const (
	maxTags     = 64
	maxTagBytes = 256

	// minRAM is the least memory that a VM may ask for.
	minRAM = 16 << 20
)

// createJSON is the body of a create call. Fields that name what this daemon
// doesn't do are there so that they are refused by name.
type createJSON struct {
	RAMBytes   int64       `json:"ram_bytes"`
	CPUs       int         `json:"cpus"`
	GPUCount   int         `json:"gpu_count"`
	Persistent bool        `json:"persistent"`
	Userdata   string      `json:"userdata"`
	Tags       []string    `json:"tags"`
	Secrets    []string    `json:"secrets"`
	IP         string      `json:"ip"`
	DiskImage  string      `json:"disk_image"`
	ImportUser string      `json:"import_user"`
	SSHKeys    []string    `json:"ssh_keys"`
	Network    *policyJSON `json:"network"`

	Hostname   string   `json:"hostname"`
	Protected  bool     `json:"protected"`
	PCIDevices []string `json:"pci_devices"`
}

// unsupported refuses what asks for something that this daemon doesn't do.
func (d *Daemon) unsupported(c *createJSON) error {
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"hostname", c.Hostname != ""},
		{"protected", c.Protected},
		{"pci_devices", len(c.PCIDevices) > 0},
	} {
		if field.set {
			return refuse(http.StatusNotImplemented, "this daemon doesn't support %s", field.name)
		}
	}
	if c.DiskImage != "" && c.DiskImage != d.image {
		return refuse(http.StatusNotImplemented, "this daemon has no disk_image but %q", d.image)
	}
	return nil
}

// vmPlan is a checked request for a VM.
type vmPlan struct {
	group      *HostGroup
	cpus       int
	ramBytes   int64
	host       int // the number of the address, 0 is any
	tags       []string
	grants     []string // nil is every secret
	userdata   string
	protected  bool
	persistent bool
	network    *policyJSON // nil is none of its own
	keys       []string
	importUser string

	base         string // the disk that its own begins as, "" is the image
	parentCommit string
}

// plan checks a create call's body against the group's limits.
func (d *Daemon) plan(g *HostGroup, c *createJSON) (vmPlan, error) {
	if err := d.unsupported(c); err != nil {
		return vmPlan{}, err
	}
	if err := g.checkSizes([]sizeLimit{
		{"cpus", int64(c.CPUs), int64(g.CPUs)},
		{"ram_bytes", c.RAMBytes, g.RAMBytes},
		{"gpu_count", int64(c.GPUCount), int64(g.GPUCount)},
	}); err != nil {
		return vmPlan{}, err
	}
	if err := checkRAM(c.RAMBytes, min(minRAM, g.RAMBytes)); err != nil {
		return vmPlan{}, err
	}
	if err := checkTags(c.Tags); err != nil {
		return vmPlan{}, err
	}
	p := vmPlan{
		group: g, cpus: c.CPUs, ramBytes: c.RAMBytes, tags: c.Tags, userdata: c.Userdata,
		persistent: c.Persistent, importUser: c.ImportUser,
	}
	if p.cpus == 0 {
		p.cpus = g.CPUs
	}
	if p.ramBytes == 0 {
		p.ramBytes = g.RAMBytes
	}
	if len(c.Secrets) > 0 {
		p.grants = slices.Compact(slices.Sorted(slices.Values(c.Secrets)))
	}
	var err error
	if c.IP != "" {
		if p.host, err = parseAddress(c.IP); err != nil {
			return vmPlan{}, err
		}
	}
	if p.network, err = d.checkPolicy(c.Network); err != nil {
		return vmPlan{}, err
	}
	if p.keys, err = checkKeys(c.SSHKeys); err != nil {
		return vmPlan{}, err
	}
	if err := checkImportUser(c.ImportUser); err != nil {
		return vmPlan{}, err
	}
	if p.persistent {
		if err := d.checkDisks(); err != nil {
			return vmPlan{}, err
		}
	}
	return p, d.secrets.check(p.grants)
}

// sizeLimit is a size that is asked for, and the most that there can be.
type sizeLimit struct {
	name        string
	want, limit int64
}

func (g *HostGroup) checkSizes(sizes []sizeLimit) error {
	for _, size := range sizes {
		if size.want < 0 {
			return refuse(http.StatusBadRequest, "%s can't be negative", size.name)
		}
		if size.want > size.limit {
			return refuse(http.StatusBadRequest, "%s %d is more than the limit of host group %q, which is %d",
				size.name, size.want, g.Name, size.limit)
		}
	}
	return nil
}

// checkRAM refuses less memory than least. 0 is the group's.
func checkRAM(bytes, least int64) error {
	if bytes > 0 && bytes < least {
		return refuse(http.StatusBadRequest, "ram_bytes %d is less than a VM needs, which is %d", bytes, least)
	}
	return nil
}

func checkTags(tags []string) error {
	if len(tags) > maxTags {
		return refuse(http.StatusBadRequest, "%d tags are more than the limit, which is %d", len(tags), maxTags)
	}
	named := false
	for i, tag := range tags {
		switch {
		case tag == "" || tag == nameTag:
			return refuse(http.StatusBadRequest, "tag %d is empty", i+1)
		case len(tag) > maxTagBytes:
			return refuse(http.StatusBadRequest, "tag %d is longer than %d bytes", i+1, maxTagBytes)
		case !printable(tag):
			return refuse(http.StatusBadRequest, "tag %q has characters that a tag can't have", tag)
		case slices.Contains(tags[:i], tag):
			return refuse(http.StatusBadRequest, "tag %q is there twice", tag)
		}
		if strings.HasPrefix(tag, nameTag) {
			if named {
				return refuse(http.StatusBadRequest, "a VM has one name; there are several tags %sx", nameTag)
			}
			named = true
		}
	}
	return nil
}
