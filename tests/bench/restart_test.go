package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	csicatalog "github.com/atoll-storage/atoll/csi/catalog"
)

// program builds the driver.
func program(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "atoll-csi")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", path,
		"./cmd/atoll-csi").CombinedOutput(); err != nil {
		b.Fatalf("building the driver: %v\n%s", err, out)
	}
	return path
}

// restart measures a new controller process on a pool that has volumes: how long
// until its first answer to a creation, for which it reads all records, beside a
// plain walk over them on the same mount; and what memory it has then.
func restart(b *testing.B, path string, folder csicatalog.Folder, root string) {
	begin := time.Now()
	volumes := walk(b, root)
	floor := time.Since(begin)
	dir, err := os.MkdirTemp("", "restart-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	begin = time.Now()
	cmd := exec.Command(path, "controller", "--catalog", folder.Dir, "--mounts", filepath.Join(dir, "mounts"),
		"--endpoint", "unix://"+dir+"/csi.sock")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it unmounts
		_ = cmd.Wait()
	}()
	conn, err := grpc.NewClient("unix://"+dir+"/csi.sock", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	client := csi.NewControllerClient(conn)
	id := create(b, client)
	first := time.Since(begin)
	b.ReportMetric(float64(volumes), "volumes")
	b.ReportMetric(first.Seconds(), "first-creation-s")
	b.ReportMetric(floor.Seconds(), "walk-s")
	b.ReportMetric(first.Seconds()/floor.Seconds(), "times-walk")
	b.ReportMetric(resident(b, cmd.Process.Pid), "resident-MB")
	b.ReportMetric(0, "ns/op")
	if _, err := client.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		b.Error(err)
	}
}

// walk reads the records of all volumes, one after the other.
func walk(b *testing.B, root string) (volumes int) {
	value := make([]byte, 4096)
	err := filepath.WalkDir(filepath.Join(root, "subvol"), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, err := unix.Getxattr(path, "trusted.atoll.volume", value); err == nil {
			volumes++
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return volumes
}

// resident is the largest memory that a process has had, in MB.
func resident(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kb); err == nil {
			return kb / 1000
		}
	}
	b.Fatal("no VmHWM")
	return 0
}
