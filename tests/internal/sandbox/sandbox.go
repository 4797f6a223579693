// Package sandbox runs the tests of a package in namespaces of their own: processes, mounts,
// and a network that has only loopback. Packages then run side by side without sharing ports
// or mounts, and whatever a test leaves behind, as after a panic, ends with its process.
package sandbox

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/tests/internal/programs"
)

// roleVariable tells a copy of the test program what it is: process 1 of the sandbox, or the
// process that runs the tests.
const (
	roleVariable = "ATOLL_TEST_SANDBOX"
	roleFirst    = "first"
	roleTests    = "tests"
)

// Run is m.Run in a sandbox; m is a *testing.M. Other users than root, and -short, get none: their
// tests start nothing. TestMain passes the result to os.Exit.
func Run(m interface{ Run() int }) int {
	switch os.Getenv(roleVariable) {
	case roleFirst:
		return report(first())
	case roleTests:
		return m.Run()
	}
	flag.Parse()
	if os.Getuid() != 0 || testing.Short() {
		return m.Run()
	}
	return report(guard())
}

// Parallel is how many parallel tests of the package run at once, unless -parallel is given: on
// few processors, too, since they mostly wait.
func Parallel(n int) {
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // not a test program
	}
}

func report(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	return code
}

// guard stays outside: it builds the programs, which may need the network, starts process 1,
// and removes the files of the tests when the sandbox has ended.
func guard() (code int, err error) {
	if _, err := programs.Dir(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "at-") // short: paths of sockets have at most 107 bytes
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // databases have a user of their own
		return 0, err
	}
	cmd := again(roleFirst)
	cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := spawn.Start(cmd); err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	return wait(cmd)
}

// again is a copy of this program with another role.
func again(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// wait waits until a copy has ended, and passes signals on to it.
func wait(cmd *exec.Cmd) (code int, err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	return exitCode(cmd.Wait())
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if s := exit.Sys().(syscall.WaitStatus); s.Signaled() {
		return 128 + int(s.Signal()), nil // as shells do
	}
	return exit.ExitCode(), nil
}
