// Package machine starts processes that act as machines of a cluster: an init process with
// separate processes, mounts, network and host name. The kernel removes all of these when it
// ends, even if it is killed: only files are left to clean.
package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// specVariable passes a machine's specification to its init process; workVariable marks the
// worker process.
const (
	specVariable   = "ATOLL_TEST_MACHINE"
	workerVariable = "ATOLL_TEST_MACHINE_WORK"
)

// Run is the main function of a kind of machine. The machine ends when it returns.
type Run func(spec json.RawMessage) error

// Child must be called first by main or TestMain: in a process that Start started it never
// returns. kinds maps names to kinds of machines.
func Child(kinds map[string]Run) {
	text := os.Getenv(specVariable)
	if text == "" {
		return
	}
	var s envelope
	err := json.Unmarshal([]byte(text), &s)
	switch {
	case err != nil:
	case os.Getenv(workerVariable) == "":
		err = runInit(s.Cgroup)
	default:
		os.Unsetenv(specVariable)
		os.Unsetenv(workerVariable)
		if s.Cgroup != "" {
			err = mountCgroups()
		}
		if err == nil {
			err = kinds[s.Kind](s.Spec)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "machine %s: %v\n", s.Kind, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type envelope struct {
	Kind, Cgroup string
	Spec         json.RawMessage
}

// Start starts a machine. Its output goes to log; it inherits files from descriptor 3 on.
// With the name of a cgroup, its containers are below that cgroup in each hierarchy.
func Start(kind, cgroup string, spec any, log *os.File, files ...*os.File) (*exec.Cmd, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(envelope{Kind: kind, Cgroup: cgroup, Spec: raw})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), specVariable+"="+string(text))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	return cmd, cmd.Start()
}

// runInit is the init process: it mounts /proc, starts the worker, and reaps orphaned processes.
// When the worker ends, it ends, and with it the machine.
func runInit(cgroup string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	as := &syscall.SysProcAttr{}
	if cgroup != "" {
		if err := joinCgroups(cgroup); err != nil {
			return err
		}
		as.Cloneflags = unix.CLONE_NEWCGROUP
	}
	files := []uintptr{0, 1, 2}
	for fd := uintptr(3); ; fd++ {
		if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || fd > 15 {
			break
		}
		files = append(files, fd)
	}
	worker, err := syscall.ForkExec("/proc/self/exe", []string{"machine"}, &syscall.ProcAttr{
		Env: append(os.Environ(), workerVariable+"=1"), Files: files, Sys: as,
	})
	if err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fmt.Errorf("waiting: %w", err)
		case pid == worker && (status.Exited() || status.Signaled()):
			return nil
		}
	}
}
