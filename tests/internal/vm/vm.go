// Package vm runs tests in virtual machines, whose kernel has what the kernel of this machine
// may lack: XFS with project quotas. QEMU emulates the processor in software, so the tests run
// on every processor and need no rights. Emulation is slow: it is for behaviour, not for speed.
//
// A machine has Debian's cloud kernel from .cache/kernel, empty disks, and a root file system in
// memory with the test program, GlusterFS and mkfs.xfs of this machine. It has no network but
// loopback, and no source files.
package vm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// insideEnv is set in a machine, disksEnv has the device paths of its disks.
const (
	insideEnv = "ATOLL_VM"
	disksEnv  = "ATOLL_VM_DISKS"
)

// Disk is an empty disk of a machine, in bytes.
type Disk int64

// Run runs the calling test in a machine with these disks. On this machine, Run returns false
// after the test in the machine passed, and fails the test if it did not pass. In the machine,
// Run returns true with the device paths of the disks. Tests run side by side.
func Run(t *testing.T, disks ...Disk) (devices []string, isInside bool) {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return strings.Fields(os.Getenv(disksEnv)), true
	}
	if strings.Contains(t.Name(), "/") {
		t.Fatal("subtests cannot run in a machine: call Run from the test itself")
	}
	m := newMachine(t, disks)
	t.Parallel()
	ctx, cancel := beforeDeadline(t)
	defer cancel()
	begin := time.Now()
	r := m.run(ctx, testParameters(t.Name(), disks))
	took := time.Since(begin).Round(time.Second / 10)
	if !r.passed() {
		t.Fatalf("test in the virtual machine failed after %s: exit status %q, %v\noutput of the test:\n%s\nend of the kernel's log:\n%s\nQEMU:\n%s",
			took, r.code, r.err, r.output, tail(r.console, 6000), r.qemu)
	}
	if bytes.Contains(r.output, []byte("--- SKIP: ")) {
		t.Fatalf("test in the virtual machine was skipped: a machine has what its tests need; add it to the machine\n%s", r.output)
	}
	t.Logf("passed in a virtual machine, in %s", took)
	return nil, false
}

// newMachine prepares a machine, or skips the test if something is not installed.
func newMachine(t *testing.T, disks []Disk) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a virtual machine: not with -short")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("boots a virtual machine of amd64 with this machine's programs: needs amd64")
	}
	if _, err := exec.LookPath(emulator); err != nil {
		t.Skip(emulator + " is not installed: run make deps")
	}
	k, err := findKernel()
	if err != nil {
		t.Skipf("no kernel for virtual machines: %v", err)
	}
	root, err := rootImage()
	if err != nil {
		t.Fatal(err)
	}
	return &machine{kernel: k.image, root: root, disks: disks}
}

// beforeDeadline returns a context that ends before 'go test' ends the program, so that there is
// time to report what the machine printed.
func beforeDeadline(t *testing.T) (context.Context, context.CancelFunc) {
	deadline, ok := t.Deadline()
	if !ok {
		return context.WithCancel(t.Context())
	}
	return context.WithDeadline(t.Context(), deadline.Add(-10*time.Second))
}

// tail returns the last n bytes of a text.
func tail(text []byte, n int) []byte { return text[max(0, len(text)-n):] }
