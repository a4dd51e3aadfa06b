package daemon

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// address is the n-th address of the daemon's subnet, as nodes show it.
func address(n int) string { return fmt.Sprintf("%s%d/24", subnet, n) }

// parseAddress returns the number of an address in the daemon's subnet, which
// may carry the subnet's mask.
func parseAddress(text string) (int, error) {
	addr, err := netip.ParseAddr(strings.TrimSuffix(text, "/24"))
	if err == nil {
		ip := addr.As16()
		if n := int(ip[15]); addr.Is4() && addr.String() == fmt.Sprintf("%s%d", subnet, n) && n >= firstHost && n <= lastHost {
			return n, nil
		}
	}
	return 0, refuse(http.StatusBadRequest, "ip must be an address from %s%d to %s%d, not %q", subnet, firstHost, subnet, lastHost, text)
}

// maxPolicy is how many networks a policy may name.
const maxPolicy = 256

// checkPolicy refuses a policy of a VM's own that its network can't keep to,
// and returns it as descriptions show it; nil is none. An isolated network
// drops everything, the machine's own lets everything through.
func (d *Daemon) checkPolicy(p *policyJSON) (*policyJSON, error) {
	if p == nil || len(p.Allow)+len(p.Drop) == 0 {
		return nil, nil //nolint:nilnil // no policy is no error
	}
	if d.network == NetworkHost && len(p.Drop) > 0 {
		return nil, refuse(http.StatusNotImplemented, "network: VMs share the machine's network here, from which nothing can be dropped")
	}
	if d.network != NetworkHost && len(p.Allow) > 0 {
		return nil, refuse(http.StatusNotImplemented, "network: a VM's network leads nowhere here, so that nothing can be allowed")
	}
	if len(p.Allow)+len(p.Drop) > maxPolicy {
		return nil, refuse(http.StatusBadRequest, "network names %d networks; %d is the most", len(p.Allow)+len(p.Drop), maxPolicy)
	}
	for _, list := range [][]string{p.Allow, p.Drop} {
		for _, cidr := range list {
			if _, err := netip.ParsePrefix(cidr); err == nil {
				continue
			}
			if _, err := netip.ParseAddr(cidr); err != nil {
				return nil, refuse(http.StatusBadRequest, "network: %.100q is neither an address nor a CIDR such as 10.0.0.0/8", cidr)
			}
		}
	}
	return &policyJSON{Allow: append([]string{}, p.Allow...), Drop: append([]string{}, p.Drop...)}, nil
}
