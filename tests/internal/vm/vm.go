// Package vm runs tests in virtual machines, whose kernel has what the host's kernel may lack:
// XFS with project quotas. QEMU emulates the processor in software, so the tests run on every
// processor and do not need root. Emulation is slow: test behavior with it, not speed.
//
// A virtual machine has Debian's cloud kernel from .cache/kernel, empty disks, and a root file
// system in memory with copies of the test program, GlusterFS and mkfs.xfs of the host. Its only
// network is loopback, and it has no source files.
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

// insideEnv is set inside a virtual machine. disksEnv has the device paths of its disks.
const (
	insideEnv = "ATOLL_VM"
	disksEnv  = "ATOLL_VM_DISKS"
)

// Disk is the size of an empty disk of a virtual machine, in bytes.
type Disk int64

// Run runs the calling test in a virtual machine with these disks. On the host, Run returns false
// after the test inside passed, and fails the test if it did not pass. Inside, Run returns true
// with the device paths of the disks. Tests that call Run are parallel tests.
func Run(t *testing.T, disks ...Disk) (devices []string, isInside bool) {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return strings.Fields(os.Getenv(disksEnv)), true
	}
	if strings.Contains(t.Name(), "/") {
		t.Fatal("run subtest in a virtual machine: not supported; call vm.Run from the test itself")
	}
	m := newMachine(t, disks)
	t.Parallel()
	ctx, cancel := beforeDeadline(t)
	defer cancel()
	begin := time.Now()
	r := m.run(ctx, testParameters(t.Name(), disks))
	took := time.Since(begin).Round(time.Second / 10)
	if !r.passed() {
		t.Fatalf("test in the virtual machine failed after %s: exit status %q, %v\n"+
			"output of the test:\n%s\nend of the kernel's log:\n%s\nmessages of QEMU:\n%s",
			took, r.code, r.err, r.output, tail(r.console, 6000), r.qemu)
	}
	if bytes.Contains(r.output, []byte("--- SKIP: ")) {
		t.Fatalf("test in the virtual machine was skipped; add what it needs to tests/internal/vm\n%s", r.output)
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
		t.Skip("boots a virtual machine with the host's programs: needs amd64")
	}
	if _, err := exec.LookPath(emulator); err != nil {
		t.Skip(emulator + " is not installed: run make deps")
	}
	k, err := findKernel()
	if err != nil {
		t.Skipf("boots a virtual machine: %v", err)
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
