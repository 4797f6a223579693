package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
)

const (
	emulator = "qemu-system-x86_64"
	memory   = "1G"
	// guestLimit ends a test that hangs. It is measured by the clock inside, and longer than a wait
	// for one condition (package await).
	guestLimit = "15m"
	// endMark stands before the exit status of the test, in the last line of its output.
	endMark = "\nexit status "
)

// machine is a virtual machine that runs once.
type machine struct {
	kernel string   // path of the kernel's image
	root   *os.File // initial file system
	disks  []Disk
}

// result is what a machine left behind.
type result struct {
	output  []byte // of the test
	code    string // exit status of the test, "" if it did not end
	console []byte // messages of the kernel
	qemu    []byte // messages of QEMU itself
	err     error
}

func (r result) passed() bool { return r.err == nil && r.code == "0" }

// testParameters are kernel parameters that tell init.sh what to run.
func testParameters(test string, disks []Disk) []string {
	parameters := []string{insideEnv + "=1", "TEST=" + test, "LIMIT=" + guestLimit}
	return append(parameters, fmt.Sprintf("DISKS=%d", len(disks)))
}

// run starts the machine and waits until it is off. It is killed when the context ends. All of its
// files are unlinked before it starts, so nothing is left however this process ends.
func (m *machine) run(ctx context.Context, parameters []string) (r result) {
	files := []*os.File{m.root}
	const root, console, output, firstDisk = 0, 1, 2, 3
	for _, size := range append([]Disk{0, 0}, m.disks...) {
		f, err := scratch(int64(size))
		if err != nil {
			return result{err: err}
		}
		defer f.Close()
		files = append(files, f)
	}
	args := append(m.arguments(parameters), "-initrd", descriptor(root),
		"-serial", "file:"+descriptor(console), "-serial", "file:"+descriptor(output))
	for i := range m.disks {
		// The disks need not survive a power failure of the host.
		args = append(args, "-drive", "format=raw,if=virtio,cache=unsafe,file="+descriptor(firstDisk+i))
	}
	var messages bytes.Buffer
	cmd := exec.CommandContext(ctx, emulator, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &messages, &messages, files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := spawn.Start(cmd); err != nil {
		return result{err: err}
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("run virtual machine: %w", ctx.Err())
	}
	text, code := cutCode(contents(files[output]))
	return result{output: text, code: code, console: contents(files[console]), qemu: messages.Bytes(), err: err}
}

// arguments of QEMU that are the same for all machines, but for parameters of the kernel.
func (m *machine) arguments(parameters []string) []string {
	return []string{
		// Software emulation works everywhere. KVM is missing on many hosts of tests, or hangs.
		"-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1", "-m", memory,
		// The clock of the machine counts instructions, 2^1 ns each. On a busy host it slows down
		// together with the processor, so that time limits inside do not depend on the host's load.
		"-icount", "shift=1,sleep=on",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", m.kernel,
		// A panic ends QEMU, because of -no-reboot. Self-tests of ciphers are a third of the boot.
		"-append", strings.Join(append([]string{"console=ttyS0", "panic=-1", "cryptomgr.notests"}, parameters...), " "),
	}
}

// cutCode cuts the exit status off the output of a test.
func cutCode(text []byte) (output []byte, code string) {
	i := bytes.LastIndex(text, []byte(endMark))
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimSpace(string(text[i+len(endMark):]))
}

// scratch creates a file of this size without a name.
func scratch(size int64) (*os.File, error) {
	f, err := os.CreateTemp("", "atoll-vm-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// descriptor is the path by which QEMU opens an inherited file.
func descriptor(index int) string { return fmt.Sprintf("/proc/self/fd/%d", 3+index) }

// contents of a file that another process has written.
func contents(f *os.File) []byte {
	if _, err := f.Seek(0, 0); err != nil {
		return []byte(err.Error())
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(f); err != nil {
		text.WriteString(err.Error())
	}
	return text.Bytes()
}
