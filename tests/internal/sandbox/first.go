package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// first is process 1. It prepares the namespaces, starts the process that runs the tests, and
// reaps what daemons leave behind. When the tests end, it ends, and the kernel kills the rest.
func first() (code int, err error) {
	if err := prepare(); err != nil {
		return 0, err
	}
	cmd := again(roleTests)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the tests: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	for {
		var ended syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ended, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for the tests: %w", err)
		case pid == cmd.Process.Pid && ended.Signaled():
			return 128 + int(ended.Signal()), nil
		case pid == cmd.Process.Pid && ended.Exited():
			return ended.ExitStatus(), nil
		}
	}
}

// prepare makes mounts private, and gives the sandbox its own /proc, network namespaces,
// statedumps and loopback.
func prepare() error {
	const (
		netns = "/run/netns"   // of ip-netns(8)
		dumps = "/run/gluster" // statedumps of GlusterFS
	)
	for _, dir := range []string{netns, dumps} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", netns, "tmpfs", 0},
		{"tmpfs", dumps, "tmpfs", 0},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("set up loopback: %w: %s", err, out)
	}
	return nil
}
