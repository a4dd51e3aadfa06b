package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// sudoLayer is the folder in a run folder that guests have below their own
// /usr and above the host's: the sudo program. What a guest writes there goes
// to its own layer, as everywhere; the disk that a guest keeps has none of it.
const sudoLayer = "sudo"

// writeSudoLayer fills the layer with this program and the script that starts
// it as sudo.
func writeSudoLayer(dir string, program *os.File) error {
	script := "#!/bin/sh\nexec " + shimName + " sudo \"$@\"\n"
	for _, folder := range []string{dir, filepath.Join(dir, "bin"), filepath.Join(dir, "lib"), filepath.Join(dir, "lib", "slicer")} {
		if err := mkdirMode(folder, 0o755); err != nil {
			return fmt.Errorf("place sudo: %w", err)
		}
	}
	if err := writeProgram(filepath.Join(dir, "lib", "slicer", filepath.Base(shimName)), program); err != nil {
		return fmt.Errorf("place sudo: %w", err)
	}
	name := filepath.Join(dir, "bin", "sudo")
	if err := os.WriteFile(name, []byte(script), 0o755); err != nil {
		return fmt.Errorf("place sudo: %w", err)
	}
	return os.Chmod(name, 0o755)
}

func writeProgram(name string, program *os.File) error {
	in, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", program.Fd()))
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
