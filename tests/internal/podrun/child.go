package podrun

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// setup is how a child sets itself up before it executes the command.
type setup struct {
	Hostname        string
	Network         string // path of a network namespace
	Root            string // directory for its root; "" keeps the machine's
	Program         string // directory with atoll-brick
	Hosts           string // file for its /etc/hosts
	Mounts          []bind
	Command         []string
	Capabilities    []string
	Privileged      bool
	ReadOnlyRoot    bool
	NoNewPrivileges bool
	Shared          string // directory whose mounts propagate to the machine; without Root
}

type bind struct {
	From, To                  string
	ReadOnly, Shared, Follows bool
}

// Child must be called first by main or TestMain. In a copy of the program that was started as
// a container, it never returns.
func Child() {
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	runtime.LockOSThread()
	var s setup
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = s.become()
	}
	fmt.Fprintln(os.Stderr, "podrun:", err)
	os.Exit(125)
}

func (s *setup) become() error {
	fd, err := unix.Open(s.Network, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	if s.Root == "" {
		err = s.shareRoot()
	} else {
		err = s.ownRoot()
	}
	if err != nil {
		return err
	}
	path, err := exec.LookPath(s.Command[0])
	if err != nil {
		return err
	}
	if err := s.drop(); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", path, syscall.Exec(path, s.Command, []string{"PATH=" + os.Getenv("PATH")}))
}

// shareRoot keeps the machine's files except /etc/hosts. Mounts below Shared propagate to the
// machine; all others stay in this namespace.
func (s *setup) shareRoot() error {
	tree, err := openTree(s.Shared)
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := attachTree(tree, s.Shared); err != nil {
		return err
	}
	return unix.Mount(s.Hosts, "/etc/hosts", "", unix.MS_BIND, "")
}

// openTree returns a detached copy of the mounts at a path. It stays a peer of the original:
// mounts on one appear on the other.
func openTree(path string) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("copy the mounts at %s: %w", path, err)
	}
	return tree, nil
}

func attachTree(tree int, path string) error {
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", path, err)
	}
	return unix.Close(tree)
}

// ownRoot builds the root of a container from the machine's programs and the pod's volumes, and
// changes to it. Volumes are opened first, while they are still shared with the node; nothing
// else is shared.
func (s *setup) ownRoot() error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return err
	}
	var trees []int
	for _, m := range s.Mounts {
		tree, err := openTree(m.From)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", s.Root, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for i, m := range s.Mounts {
		if err := s.volume(trees[i], m); err != nil {
			return err
		}
	}
	for _, step := range []func() error{s.programs, s.etc, s.devices, s.proc} {
		if err := step(); err != nil {
			return err
		}
	}
	if s.ReadOnlyRoot {
		if err := unix.Mount("", s.Root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	if err := unix.Chroot(s.Root); err != nil {
		return err
	}
	return os.Chdir("/")
}

// volume mounts a volume with the mount propagation that the container requests.
func (s *setup) volume(tree int, m bind) error {
	to := filepath.Join(s.Root, m.To)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := attachTree(tree, to); err != nil {
		return err
	}
	var propagation uintptr = unix.MS_PRIVATE
	switch {
	case m.Shared:
		propagation = unix.MS_SHARED
	case m.Follows:
		propagation = unix.MS_SLAVE
	}
	if err := unix.Mount("", to, "", propagation|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.ReadOnly {
		return unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

// proc mounts /proc with the container's processes, and /sys read-only.
func (s *setup) proc() error {
	for _, name := range []string{"proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.Root, name), 0o777); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", filepath.Join(s.Root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	sys := filepath.Join(s.Root, "sys")
	if err := unix.Mount("/sys", sys, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount("", sys, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}

// programs mounts, read-only, what an image would contain.
func (s *setup) programs() error {
	for from, to := range map[string]string{
		"/usr": "/usr", "/bin": "/bin", "/sbin": "/sbin", "/lib": "/lib",
		"/lib64": "/lib64", s.Program: "/opt/atoll",
	} {
		info, err := os.Lstat(from)
		if err != nil {
			continue // not every distribution has all of them
		}
		target := filepath.Join(s.Root, to)
		if info.Mode()&os.ModeSymlink != 0 {
			link, err := os.Readlink(from)
			if err != nil {
				return err
			}
			if err := os.Symlink(link, target); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(from, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", from, err)
		}
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount %s: %w", from, err)
		}
	}
	return nil
}

func (s *setup) etc() error {
	dir := filepath.Join(s.Root, "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{
		"passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "protocols",
		"services",
	} {
		if text, err := os.ReadFile(filepath.Join("/etc", name)); err == nil {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				return err
			}
		}
	}
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, nil, 0o600); err != nil {
		return err
	}
	return unix.Mount(s.Hosts, hosts, "", unix.MS_BIND, "")
}

// devices gives a container without a volume at /dev the devices that every container has.
func (s *setup) devices() error {
	if slices.ContainsFunc(s.Mounts, func(m bind) bool { return m.To == "/dev" }) {
		return nil
	}
	dir := filepath.Join(s.Root, "dev")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		target := filepath.Join(dir, name)
		if err := os.WriteFile(target, nil, 0o600); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// capabilities are the numbers (capability.h) of the capabilities that rendered pods name.
var capabilities = map[string]uintptr{
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	"FOWNER": unix.CAP_FOWNER, "FSETID": unix.CAP_FSETID, "MKNOD": unix.CAP_MKNOD, "SETGID": unix.CAP_SETGID,
	"SETUID": unix.CAP_SETUID, "SYS_ADMIN": unix.CAP_SYS_ADMIN,
}

// drop removes all capabilities that were not requested from the bounding set, so that the
// command starts without them.
func (s *setup) drop() error {
	if s.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	if s.Privileged || s.Root == "" {
		return nil
	}
	var keep []uintptr
	for _, name := range s.Capabilities {
		number, known := capabilities[name]
		if !known {
			return fmt.Errorf("unknown capability %s", name)
		}
		keep = append(keep, number)
	}
	for number := uintptr(0); number <= unix.CAP_LAST_CAP; number++ {
		if slices.Contains(keep, number) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0); err != nil && err != unix.EINVAL {
			return err
		}
	}
	return nil
}
