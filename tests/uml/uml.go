// Package uml runs tests inside User-Mode Linux: a kernel of Debian's that has what
// that of the machine may lack, such as quotas of XFS, with the machine's own files
// as its root. It is slow, and good for behaviour only.
package uml

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Environment of a test that runs inside: set, and the devices of its disks.
const (
	inside    = "ATOLL_UML"
	diskEnv   = "ATOLL_UML_DISKS"
	bootLimit = 5 * time.Minute
	memory    = "1500M"
)

//go:embed init.sh
var initScript []byte

// Disk is an empty disk for the kernel inside, in bytes.
type Disk int64

// Run runs the rest of the calling test in a machine with these disks, and nothing
// of it here: outside it returns false when the machine has ended, inside it
// returns true with the disks' devices.
func Run(t *testing.T, disks ...Disk) (devices []string, isInside bool) {
	t.Helper()
	if os.Getenv(inside) != "" {
		return strings.Fields(os.Getenv(diskEnv)), true
	}
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("boots User-Mode Linux: needs root, and no -short")
	}
	kernel, err := exec.LookPath("linux.uml")
	if err != nil {
		t.Skip("user-mode-linux is not installed: run make deps")
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !bootsOn(string(text)) {
		t.Skip("User-Mode Linux panics on processors with AMX, whose registers are more than it has room for (ptrace: xstate)")
	}
	dir := t.TempDir()
	t.Parallel()
	args := arguments(t, dir, disks)
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, kernel, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	begin := time.Now()
	err = cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // threads that are left of it
	out, _ := os.ReadFile(filepath.Join(dir, "out"))
	code, readErr := os.ReadFile(filepath.Join(dir, "code"))
	t.Logf("inside, after %s:\n%s", time.Since(begin).Round(time.Second/10), out)
	if readErr != nil || strings.TrimSpace(string(code)) != "0" {
		text := console.Bytes()
		t.Fatalf("the test inside ended with %q (%v, %v); the machine said:\n%s", code, readErr, err, text[max(0, len(text)-4000):])
	}
	return nil, false
}

// bootsOn tells whether User-Mode Linux starts on processors as /proc/cpuinfo lists them. It reads
// all registers of a process by ptrace, and Linux 6.1 ends in a panic where they are more than it
// has room for: with those of AMX, 8 KiB of tiles alone.
func bootsOn(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "flags" && slices.Contains(strings.Fields(flags), "amx_tile") {
			return false
		}
	}
	return true
}

// arguments writes what the machine needs and gives its command line.
func arguments(t *testing.T, dir string, disks []Disk) []string {
	t.Helper()
	args := []string{"mem=" + memory, "root=/dev/root", "rootfstype=hostfs", "rw", "con=null", "con0=fd:0,fd:1", "quiet", "uml_dir=" + dir}
	var devices []string
	for i, size := range disks {
		image := filepath.Join(dir, fmt.Sprintf("disk-%d", i))
		f, err := os.Create(image)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(int64(size)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		args = append(args, fmt.Sprintf("ubd%d=%s", i, image))
		devices = append(devices, fmt.Sprintf("/dev/ubd%c", 'a'+i))
	}
	init := filepath.Join(dir, "init")
	if err := os.WriteFile(init, initScript, 0o700); err != nil {
		t.Fatal(err)
	}
	at, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	run := fmt.Sprintf("cd %q && export %s=1 %s=%q PATH=%q && exec %q -test.run '^%s$' -test.v -test.timeout %s", at, inside, diskEnv,
		strings.Join(devices, " "), os.Getenv("PATH"), os.Args[0], t.Name(), bootLimit)
	if err := os.WriteFile(filepath.Join(dir, "run"), []byte(run), 0o700); err != nil {
		t.Fatal(err)
	}
	return append(args, "init="+init)
}
