// Package machine makes processes that are machines of a cluster: a process 1 with its own
// processes, mounts, network and name. When it ends, all of that is gone, whatever else
// happens: nothing is left to clean but files.
package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// variable has a machine's Spec in the environment of its process 1; workVariable says
// that the process is the one that does the work.
const (
	variable     = "ATOLL_TEST_MACHINE"
	workVariable = "ATOLL_TEST_MACHINE_WORK"
)

// Run is what a kind of machine does. It returns when the machine is to end.
type Run func(spec json.RawMessage) error

// Child must be called first by main or TestMain: in a process that Start made it never
// returns. kinds are the kinds of machines by name.
func Child(kinds map[string]Run) {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	var s envelope
	err := json.Unmarshal([]byte(text), &s)
	switch {
	case err != nil:
	case os.Getenv(workVariable) == "":
		err = first(s.Cgroup)
	default:
		os.Unsetenv(variable)
		os.Unsetenv(workVariable)
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

// Start makes a machine. Its output goes to log; files are open in it from number 3 on.
// With the name of a cgroup, its containers are below that of each controller.
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
	cmd.Env = append(os.Environ(), variable+"="+string(text))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	return cmd, cmd.Start()
}

// first is process 1: it mounts /proc, starts the process that works, and takes the exits
// of all that others leave behind. When the worker ends, it ends, and with it the machine.
func first(cgroup string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	as := &syscall.SysProcAttr{}
	if cgroup != "" {
		if err := enter(cgroup); err != nil {
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
		Env: append(os.Environ(), workVariable+"=1"), Files: files, Sys: as,
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
