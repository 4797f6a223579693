package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Bind is a bind mount of a host's directory in a machine.
type Bind struct{ From, To string }

// Root changes the machine's root to an overlay of the host's: writes go to memory, except in
// binds, whose files persist. base is the directory for the mount; Root creates it.
func Root(base string, binds []Bind) error {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("machine", base, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting the root's tmpfs: %w", err)
	}
	root := filepath.Join(base, "root")
	for _, d := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base)
	if err := unix.Mount("machine", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mounting the root: %w", err)
	}
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
		data           string
	}{
		{"/proc", "proc", "", unix.MS_BIND | unix.MS_REC, ""},
		{"/sys", "sys", "", unix.MS_BIND | unix.MS_REC, ""},
		{"/dev", "dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{"run", "run", "tmpfs", 0, "mode=0755"},
		{"tmp", "tmp", "tmpfs", 0, "mode=1777"},
	} {
		if err := unix.Mount(m.from, filepath.Join(root, m.to), m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting /%s: %w", m.to, err)
		}
	}
	for _, b := range binds {
		to := filepath.Join(root, b.To)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll(b.From, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(b.From, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("binding %s: %w", b.To, err)
		}
	}
	return pivot(root)
}

// pivot makes root the root of this mount namespace, with mounts that propagate to containers.
func pivot(root string) error {
	old := filepath.Join(root, ".old")
	if err := os.MkdirAll(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := os.Remove("/.old"); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts: %w", err)
	}
	return nil
}

// RunCommands runs command lines in sequence, such as those of ip(8).
func RunCommands(lines ...[]string) error {
	for _, c := range lines {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", c, err, out)
		}
	}
	return nil
}
