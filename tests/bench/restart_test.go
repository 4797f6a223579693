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
	"github.com/atoll-storage/atoll/tests/internal/programs"
)

// restart measures a new controller process on a pool that has volumes: the time until it answers a
// creation, for which it reads all records, beside a plain walk over them on the same mount; and
// its memory.
func restart(b *testing.B, folder csicatalog.Folder, root string) {
	begin := time.Now()
	volumes := walk(b, root)
	floor := time.Since(begin)
	dir, err := os.MkdirTemp("", "restart-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path, err := programs.Link("atoll-csi", dir)
	if err != nil {
		b.Fatal(err)
	}
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
	measured(b, float64(volumes), "volumes")
	measured(b, first.Seconds(), "first-creation-s")
	measured(b, floor.Seconds(), "walk-s")
	measured(b, first.Seconds()/floor.Seconds(), "times-walk")
	measured(b, resident(b, cmd.Process.Pid), "resident-MB")
	b.ReportMetric(0, "ns/op")
	if _, err := client.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		b.Error(err)
	}
}

// walk reads the records of all volumes one by one.
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

// resident is the peak resident memory of a process, in MB.
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
	b.Fatal("/proc/PID/status has no VmHWM")
	return 0
}
