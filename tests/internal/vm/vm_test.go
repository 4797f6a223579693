package vm

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestPanic boots a kernel that finds no program to start: the machine ends, and the kernel's
// messages are kept.
func TestPanic(t *testing.T) {
	m := newMachine(t, nil)
	t.Parallel()
	r := m.run(t.Context(), []string{"rdinit=/missing"})
	if r.passed() || r.code != "" || !strings.Contains(string(r.console), "Kernel panic") {
		t.Errorf("exit status %q, %v; messages of the kernel:\n%s\nof QEMU: %s", r.code, r.err, r.console, r.qemu)
	}
}

// TestTooLate kills a machine when its context ends: run returns why.
func TestTooLate(t *testing.T) {
	m := newMachine(t, []Disk{1 << 20})
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r := m.run(ctx, []string{"rdinit=/bin/sh"}); r.passed() || !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("exit status %q, %v", r.code, r.err)
	}
}

func TestCutCode(t *testing.T) {
	for text, want := range map[string][2]string{
		"":                                   {"", ""},
		"PASS\n\nexit status 0\n":            {"PASS\n", "0"},
		"exit status 1\nFAIL\nexit status 2": {"exit status 1\nFAIL", "2"},
		"panic":                              {"panic", ""},
	} {
		if output, code := cutCode([]byte(text)); string(output) != want[0] || code != want[1] {
			t.Errorf("%q: %q, %q", text, output, code)
		}
	}
}

// TestArchive lists an archive with another program.
func TestArchive(t *testing.T) {
	var text strings.Builder
	a := newArchive(&text)
	a.add("/one", 0o755, []byte("x"))
	a.add("/deep/er/two", 0o644, []byte("12345"))
	a.copy("/deep/three", "archive.go")
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if text.Len()%4 != 0 {
		t.Errorf("%d bytes are no multiple of four", text.Len())
	}
	cmd := exec.Command("busybox", "cpio", "-t")
	cmd.Stdin = strings.NewReader(text.String())
	names, err := cmd.Output()
	if want := "one\ndeep\ndeep/er\ndeep/er/two\ndeep/three\n"; err != nil || string(names) != want {
		t.Errorf("%q, %v", names, err)
	}
	a = newArchive(&text)
	a.copy("/missing", "/missing")
	if err := a.close(); err == nil {
		t.Error("a file that is missing is archived")
	}
}
