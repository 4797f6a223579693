package spawn

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// TestStartAside checks that the command runs in another mount namespace and the program itself
// does not: /proc/self shows the namespace of its first thread.
func TestStartAside(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mount namespaces need root")
	}
	before, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 * runtime.GOMAXPROCS(0) {
		cmd := exec.Command("readlink", "/proc/self/ns/mnt")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		if err := StartAside(cmd, func() error { return nil }, done); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 100)
		n, err := out.Read(text)
		if err != nil || string(text[:n]) == before+"\n" {
			t.Errorf("the command is in namespace %q, %v", text[:n], err)
		}
		_ = cmd.Wait()
		close(done)
		if now, err := os.Readlink("/proc/self/ns/mnt"); err != nil || now != before {
			t.Fatalf("the program moved from namespace %s to %s: %v", before, now, err)
		}
	}
}
