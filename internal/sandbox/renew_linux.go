package sandbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// renewIdentity makes what names the machine fit a guest whose disk another
// one has used, and leaves the rest of its files alone. A file that isn't what
// it was at first is the guest's own affair.
func renewIdentity(was, now string) error {
	if was == now {
		return nil
	}
	errs := []error{
		changeFile("/etc/hostname", func([]byte) []byte { return []byte(now + "\n") }),
		changeFile("/etc/hosts", func(old []byte) []byte { return renameHost(old, was, now) }),
		renewHostKeys(),
	}
	id := newMachineID()
	for _, name := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		errs = append(errs, changeFile(name, func(old []byte) []byte {
			if len(old) == 0 {
				return nil // made at the first use
			}
			return id
		}))
	}
	return errors.Join(errs...)
}

// renameHost gives a hosts file's lines of the machine itself its new name.
// Every other line stays as it is.
func renameHost(hosts []byte, was, now string) []byte {
	var out strings.Builder
	named := false
	for line := range strings.Lines(string(hosts)) {
		text, comment, commented := strings.Cut(strings.TrimSuffix(line, "\n"), "#")
		words := strings.Fields(text)
		if len(words) > 1 && words[0] == "127.0.1.1" {
			if slices.Contains(words, was) {
				for i, w := range words {
					if w == was {
						words[i] = now
					}
				}
				line = strings.Join(words, " ")
				if commented {
					line += " #" + comment
				}
				line += "\n"
			}
			named = named || slices.Contains(words, now)
		}
		out.WriteString(line)
	}
	if !named {
		if s := out.String(); s != "" && !strings.HasSuffix(s, "\n") {
			out.WriteByte('\n')
		}
		out.WriteString("127.0.1.1 " + now + "\n")
	}
	return []byte(out.String())
}

func newMachineID() []byte {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return []byte(hex.EncodeToString(b[:]) + "\n")
}

// renewHostKeys replaces an SSH server's keys, if there are any, by a new one
// of a kind that every version of the server reads.
func renewHostKeys() error {
	names, err := filepath.Glob("/etc/ssh/ssh_host_*_key*")
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make SSH host key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("make SSH host key: %w", err)
	}
	return os.WriteFile("/etc/ssh/ssh_host_ecdsa_key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// changeFile replaces a small regular file by what change makes of it; nil
// leaves it. One that isn't there, or isn't such a file, is left too.
func changeFile(name string, change func(old []byte) []byte) error {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := readBounded(name, 1<<20)
	if err != nil {
		return err
	}
	text := change(old)
	if text == nil {
		return nil
	}
	part := name + ".slicer-new"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, name)
}
