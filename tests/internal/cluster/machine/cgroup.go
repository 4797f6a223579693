package machine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// controllers returns the directories of cgroup v1's hierarchies. cgroup v2 has none, and
// machines stay in the host's cgroups.
func controllers() ([]string, error) {
	found, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for i, f := range found {
		found[i] = filepath.Dir(f)
	}
	return found, err
}

// joinCgroups creates a cgroup of each controller, and moves this process into it.
func joinCgroups(name string) error {
	all, err := controllers()
	if err != nil {
		return err
	}
	for _, c := range all {
		dir := filepath.Join(c, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// A new cpuset is empty, and accepts no processes.
		for _, set := range []string{"cpuset.cpus", "cpuset.mems"} {
			if text, err := os.ReadFile(filepath.Join(c, set)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, set), text, 0); err != nil {
					return err
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("entering %s: %w", dir, err)
		}
	}
	return nil
}

// mountCgroups mounts this process' cgroups as the roots of /sys/fs/cgroup.
func mountCgroups() error {
	all, err := controllers()
	if err != nil {
		return err
	}
	for _, c := range all {
		kind, data := "cgroup", filepath.Base(c)
		switch data {
		case "systemd":
			data = "none,name=systemd"
		case "unified":
			kind, data = "cgroup2", ""
		}
		if err := unix.Unmount(c, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", c, err)
		}
		if err := unix.Mount("cgroup", c, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data); err != nil {
			return fmt.Errorf("mounting %s: %w", c, err)
		}
	}
	return nil
}

// RemoveCgroups removes the cgroups of ended machines and their containers whose names match
// a pattern of path/filepath. None of them may have processes.
func RemoveCgroups(pattern string) error {
	all, err := controllers()
	if err != nil {
		return err
	}
	for _, c := range all {
		tops, err := filepath.Glob(filepath.Join(c, pattern))
		if err != nil {
			return err
		}
		for _, top := range tops {
			if err := removeTree(top); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeTree(top string) error {
	var dirs []string
	if err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return err
	}); err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := unix.Rmdir(d); err != nil {
			return fmt.Errorf("removing %s: %w", d, err)
		}
	}
	return nil
}
