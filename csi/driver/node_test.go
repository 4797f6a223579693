package driver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// stacked counts the mounts at a path.
func stacked(t *testing.T, path string) int {
	t.Helper()
	n, err := mountinfo.Stacked(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newNodeBed(t *testing.T) (*bed, string) {
	t.Helper()
	b := newBed(t, entry.Entry{Pool: "p"})
	return b, b.create("v", 1<<20, map[string]string{"pool": "p"})
}

// TestStagePublish brings a volume to two pods and takes it away, every call twice.
func TestStagePublish(t *testing.T) {
	b, id := newNodeBed(t)
	var staging string
	for range 2 {
		staging = b.stage(id)
	}
	var one, two string
	for range 2 {
		var code codes.Code
		var message string
		if one, code, message = b.publish(id, "one", capability(anyWriter), false); code != codes.OK {
			t.Fatal(message)
		}
		if two, code, message = b.publish(id, "two", capability(anyWriter, "noexec"), true); code != codes.OK {
			t.Fatal(message)
		}
	}
	for _, path := range []string{staging, one, two} {
		if n := stacked(t, path); n != 1 {
			t.Errorf("%d mounts at %s", n, path)
		}
	}
	if err := os.WriteFile(filepath.Join(one, "f"), []byte("text"), 0o600); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(two, "f")); err != nil || string(text) != "text" {
		t.Errorf("read %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(two, "g"), nil, 0o600); err == nil {
		t.Error("a read-only volume was written")
	}
	if m, _, _ := mountinfo.At(two); !strings.Contains(m.Flags, "noexec") {
		t.Errorf("flags %s", m.Flags)
	}
	stats, code, message := call(b, b.node.NodeGetVolumeStats, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: one})
	if code != codes.OK || len(stats.GetUsage()) != 2 {
		t.Errorf("stats %v, %s", stats, message)
	}
	for range 2 {
		for _, path := range []string{one, two} {
			if _, code, message := call(b, b.node.NodeUnpublishVolume, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: path}); code != codes.OK {
				t.Error(message)
			}
		}
		if _, code, message := call(b, b.node.NodeUnstageVolume, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging}); code != codes.OK {
			t.Error(message)
		}
	}
	if _, err := os.Stat(one); !os.IsNotExist(err) || stacked(t, one)+stacked(t, two)+stacked(t, staging) != 0 {
		t.Errorf("left: %v", err)
	}
	health, _, _ := call(b, b.node.NodeGetVolumeHealth, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: one})
	if s := health.GetVolumeHealth().GetHealthStatuses(); len(s) != 1 || s[0].GetReason() != "NotMounted" {
		t.Errorf("health %v", health)
	}
}

// TestOnePod: ReadWriteOncePod is for one path of the node.
func TestOnePod(t *testing.T) {
	b, id := newNodeBed(t)
	b.stage(id)
	c := capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	for range 2 {
		if _, code, message := b.publish(id, "one", c, false); code != codes.OK {
			t.Error(message)
		}
	}
	if _, code, message := b.publish(id, "two", c, false); code != codes.FailedPrecondition || !strings.Contains(message, "pods/one") {
		t.Errorf("%s %s", code, message)
	}
}

// TestWholePool: nothing is mounted where a whole pool is staged, or the kubelet would find that
// the client has the same mounted, and never have it unstaged (ADR 0018).
func TestWholePool(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Single}})
	id := b.create("v", 1<<20, map[string]string{"pool": "p"})
	staging := b.stage(id)
	c := capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	path := ""
	for range 2 {
		var code codes.Code
		var message string
		if path, code, message = b.publish(id, "one", c, false); code != codes.OK {
			t.Fatal(message)
		}
	}
	if at, in := stacked(t, staging), stacked(t, path); at != 0 || in != 1 {
		t.Errorf("%d mounts where it is staged, %d where it is published", at, in)
	}
	if _, code, message := b.publish(id, "two", c, false); code != codes.FailedPrecondition || !strings.Contains(message, "pods/one") {
		t.Errorf("%s %s", code, message)
	}
	health, _, _ := call(b, b.node.NodeGetVolumeHealth, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: path, StagingTargetPath: staging})
	if s := health.GetVolumeHealth().GetHealthStatuses(); len(s) != 0 {
		t.Errorf("health %v", health)
	}
	answered(b, b.node.NodeUnpublishVolume, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: path})
	answered(b, b.node.NodeUnstageVolume, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
	if stacked(t, path) != 0 {
		t.Error("it is still mounted")
	}
}

// TestReaderModes never write.
func TestReaderModes(t *testing.T) {
	b, id := newNodeBed(t)
	b.stage(id)
	path, code, message := b.publish(id, "one", capability(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY), false)
	if code != codes.OK {
		t.Fatal(message)
	}
	if err := os.WriteFile(filepath.Join(path, "f"), nil, 0o600); err == nil {
		t.Error("it was written")
	}
}

// TestMissingVolumeIsNotMade: the pod gets an error, not an empty folder.
func TestMissingVolumeIsNotMade(t *testing.T) {
	b, _ := newNodeBed(t)
	path := filepath.Join(b.d.KubeletRoot, "staging/x")
	for _, id := range []string{"v1.dir.p.none", "v1.dir.none.v", "v1.single.p.v", "../v"} {
		_, code, message := call(b, b.node.NodeStageVolume, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path, VolumeCapability: capability(anyWriter)})
		if code != codes.NotFound && code != codes.InvalidArgument {
			t.Errorf("%s: %s %s", id, code, message)
		}
	}
	if stacked(t, path) != 0 {
		t.Error("something is mounted")
	}
	if _, code, _ := b.publish("v1.dir.p.v", "one", capability(anyWriter), false); code != codes.FailedPrecondition {
		t.Errorf("published without being staged: %s", code)
	}
}

// TestTargetsStayBelowTheKubelet (CVE-2020-8567, CVE-2020-8568), also where a
// symbolic link stands in the way (CVE-2017-1002101, CVE-2021-25741).
func TestTargetsStayBelowTheKubelet(t *testing.T) {
	b, id := newNodeBed(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(b.d.KubeletRoot, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/etc", outside, b.d.KubeletRoot, b.d.KubeletRoot + "/../x", b.d.KubeletRoot + "/link/x", b.d.KubeletRoot + "/link", b.d.KubeletRoot + "x/y", "relative", b.d.KubeletRoot + "/a//b"} {
		if _, code, _ := call(b, b.node.NodeStageVolume, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path, VolumeCapability: capability(anyWriter)}); code == codes.OK {
			t.Errorf("staged at %s", path)
		}
		if _, code, _ := call(b, b.node.NodeUnpublishVolume, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: path}); code == codes.OK && path != b.d.KubeletRoot+"/link" {
			t.Errorf("unpublished %s", path)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 || stacked(t, outside) > 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

// TestForeignMountIsReplaced: what is not the volume does not stay on its path.
func TestForeignMountIsReplaced(t *testing.T) {
	b, id := newNodeBed(t)
	staging := filepath.Join(b.d.KubeletRoot, "staging", id)
	if err := os.MkdirAll(staging, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := unix.Mount("tmpfs", staging, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.stage(id)
	if m, _, _ := mountinfo.At(staging); m.Type == "tmpfs" || stacked(t, staging) != 1 {
		t.Errorf("mounted is %+v", m)
	}
}

// TestTenantsLinks: a link that a tenant makes in a volume leads the driver nowhere.
func TestTenantsLinks(t *testing.T) {
	b, id := newNodeBed(t)
	staging := b.stage(id)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(staging, "link")); err != nil {
		t.Fatal(err)
	}
	b.unmount()
	if _, code, message := call(b, b.controller.DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: id}); code != codes.OK {
		t.Fatal(message)
	}
	b.controller.sweeper.sweep(ctx, target{"p", "Subdirectory"})
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error("deleting followed a tenant's link")
	}
}
