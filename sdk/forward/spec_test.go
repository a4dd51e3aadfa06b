package forward_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slicervm-mcp/slicervm-mcp/sdk/forward"
)

func tcp(address string) forward.Endpoint { return forward.Endpoint{Network: "tcp", Address: address} }

func sock(path string) forward.Endpoint { return forward.Endpoint{Network: "unix", Address: path} }

var specs = []struct {
	name, text    string
	local, remote forward.Endpoint
}{
	{"a port is both sides", "8080", tcp("127.0.0.1:8080"), tcp("127.0.0.1:8080")},
	{"two ports are of the loopback interfaces", "8080:80", tcp("127.0.0.1:8080"), tcp("127.0.0.1:80")},
	{"the local port 0 is a free one", "0:80", tcp("127.0.0.1:0"), tcp("127.0.0.1:80")},
	{"both sides in full", "127.0.0.1:8080:127.0.0.1:80", tcp("127.0.0.1:8080"), tcp("127.0.0.1:80")},
	{"a host before the local port", "0.0.0.0:8080:80", tcp("0.0.0.0:8080"), tcp("127.0.0.1:80")},
	{"a star is every interface", "*:8080:80", tcp("*:8080"), tcp("127.0.0.1:80")},
	{"a host before the VM's port", "8080:db-1.internal:5432", tcp("127.0.0.1:8080"), tcp("db-1.internal:5432")},
	{"leading zeros don't count", "08080:0080", tcp("127.0.0.1:8080"), tcp("127.0.0.1:80")},
	{"a socket to a port", "/tmp/x.sock:80", sock("/tmp/x.sock"), tcp("127.0.0.1:80")},
	{"a socket to a host and port", "/tmp/x.sock:10.0.0.2:80", sock("/tmp/x.sock"), tcp("10.0.0.2:80")},
	{"a port to a socket", "8080:/var/run/docker.sock", tcp("127.0.0.1:8080"), sock("/var/run/docker.sock")},
	{"a host and port to a socket", "localhost:8080:/run/x", tcp("localhost:8080"), sock("/run/x")},
	{"a socket to a socket", "./a.sock:/run/b.sock", sock("./a.sock"), sock("/run/b.sock")},
	{"a socket in the folder above", "../a.sock:80", sock("../a.sock"), tcp("127.0.0.1:80")},
	{"unix: before either side", "unix:a.sock:unix:/run/b.sock", sock("a.sock"), sock("/run/b.sock")},
	{"unix: before a path of digits", "unix:8080:80", sock("8080"), tcp("127.0.0.1:80")},
	{"unix: before the VM's side", "8080:unix:/run/x.sock", tcp("127.0.0.1:8080"), sock("/run/x.sock")},
	{"a path with spaces and unicode", "8080:/run/ä b.sock", tcp("127.0.0.1:8080"), sock("/run/ä b.sock")},
	{"IPv6 in brackets", "[::1]:8080:[fe80::1]:80", tcp("[::1]:8080"), tcp("[fe80::1]:80")},
	{"IPv6 before the local port alone", "[::]:8080:80", tcp("[::]:8080"), tcp("127.0.0.1:80")},
	{"IPv6 after a port", "8080:[::1]:80", tcp("127.0.0.1:8080"), tcp("[::1]:80")},
	{"IPv6 with a zone", "[fe80::1%eth0]:8080:80", tcp("[fe80::1%eth0]:8080"), tcp("127.0.0.1:80")},
}

func TestParseSpec(t *testing.T) {
	for _, tt := range specs {
		t.Run(tt.name, func(t *testing.T) {
			got, err := forward.ParseSpec(tt.text)
			if err != nil {
				t.Fatalf("ParseSpec(%q) = %v", tt.text, err)
			}
			want := forward.Spec{Local: tt.local, Remote: tt.remote}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ParseSpec(%q) (-want +got):\n%s", tt.text, diff)
			}
			again, err := forward.ParseSpec(got.String())
			if err != nil || again != got {
				t.Errorf("ParseSpec(%q) = %v, %v, want the spec whose String it is, %v", got, again, err, got)
			}
		})
	}
}

var badSpecs = []struct{ name, text, want string }{
	{"empty", "", "it is empty"},
	{"too long", "8080:/" + strings.Repeat("x", 5000), "longer than"},
	{"a control character", "8080:/run/x\nHost: y", "control characters"},
	{"bytes that are no UTF-8", "8080:/run/\xff", "control characters"},
	{"nothing before the colon", ":80", "nothing stands"},
	{"nothing after the colon", "8080:", "nothing stands"},
	{"a port that is too large", "65536:80", "65536 is no port"},
	{"the VM's port 0", "8080:0", "from 1 to 65535"},
	{"port 0 for both sides", "0", "from 1 to 65535"},
	{"a socket alone", "/run/x.sock", "the side in the VM is missing"},
	{"a host and port alone", "127.0.0.1:8080", "the side in the VM is missing"},
	{"a host alone", "localhost", "a port must follow"},
	{"a host without a port", "8080:localhost", "a port must follow"},
	{"a host before a socket", "8080:localhost:/run/x", "a port must follow"},
	{"three ports", "1:2:3", "more than two sides"},
	{"three sides", "1:2:/run/x", "more than two sides"},
	{"a relative socket in the VM", "8080:./x.sock", "must be absolute"},
	{"a relative unix: in the VM", "8080:unix:x.sock", "must be absolute"},
	{"no path after unix:", "unix::80", "has no path"},
	{"every interface of the VM", "8080:*:80", "names no host"},
	{"a name that is none", "8080:a b:80", `"a b" is no port, host or path`},
	{"a user's home", "~/x.sock:80", "is no port, host or path"},
	{"IPv6 without brackets", "::1:8080:80", "nothing stands"},
	{"IPv4 in brackets", "[127.0.0.1]:8080:80", "brackets hold"},
	{"brackets that don't end", "[::1:8080", "brackets hold"},
	{"text after brackets", "[::1]x:80", "a colon must follow"},
	{"brackets alone", "[::1]", "a port must follow"},
	{"a negative port", "-1:80", `"-1" is no port, host or path`},
}

func TestParseSpecRefuses(t *testing.T) {
	for _, tt := range badSpecs {
		t.Run(tt.name, func(t *testing.T) {
			got, err := forward.ParseSpec(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("ParseSpec(%q) = %v, %v, want an error with %q", tt.text, got, err, tt.want)
			}
			if len(err.Error()) > 400 {
				t.Errorf("ParseSpec(%q) has an error of %d bytes, want a short one", tt.text, len(err.Error()))
			}
		})
	}
}

// FuzzParseSpec: whatever is parsed listens where the text says, dials
// something that a header can carry, and is what its String says.
func FuzzParseSpec(f *testing.F) {
	for _, tt := range specs {
		f.Add(tt.text)
	}
	for _, tt := range badSpecs {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := forward.ParseSpec(text)
		if err != nil {
			if spec != (forward.Spec{}) {
				t.Fatalf("ParseSpec(%q) = %v beside the error %v, want nothing", text, spec, err)
			}
			return
		}
		again, err := forward.ParseSpec(spec.String())
		if err != nil || again != spec {
			t.Fatalf("ParseSpec(%q) = %v, %v, want %v", spec, again, err, spec)
		}
		if strings.ContainsAny(spec.Remote.Address, "\r\n\x00") {
			t.Fatalf("ParseSpec(%q) reaches %q, which no header can carry", text, spec.Remote.Address)
		}
		if spec.Remote.Network == "unix" && !strings.HasPrefix(spec.Remote.Address, "/") {
			t.Fatalf("ParseSpec(%q) reaches the relative socket %q", text, spec.Remote.Address)
		}
		host, _, _ := strings.Cut(spec.Local.Address, ":")
		if spec.Local.Network == "tcp" && host != "127.0.0.1" && !strings.HasPrefix(text, host) {
			t.Fatalf("ParseSpec(%q) listens on %q, want what the text says or 127.0.0.1", text, spec.Local.Address)
		}
	})
}
