package repair

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/internal/linux/loop/looptest"
)

// answers are what a mount server answers, one after the other.
type answers []error

func (a *answers) Lost(context.Context) (blockdev.Losses, error) {
	err := (*a)[0]
	*a = (*a)[1:]
	return blockdev.Losses{}, err
}

// TestSilentMountServer logs a mount server that does not answer once, and once more after it has
// answered in between.
func TestSilentMountServer(t *testing.T) {
	var logged []string
	gone := errors.New("it is gone")
	l := losses{Config: Config{
		Losses: &answers{gone, gone, nil, nil, gone},
		Log:    funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}),
	}}
	for range 5 {
		l.shutDownAll(t.Context())
	}
	const line = `"level"=0 "msg"="cannot ask the mount server which volumes are lost; trying again" "error"="it is gone"`
	if !slices.Equal(logged, []string{line, line}) {
		t.Errorf("%q", logged)
	}
}

// TestDeviceOfAnotherVolume: a device that another volume has by now is not given up for the one that
// was lost.
func TestDeviceOfAnotherVolume(t *testing.T) {
	_, device, label := looptest.Attach(t, 1<<20)
	root := t.TempDir()
	target := filepath.Join(root, "plugins/kubernetes.io/csi/volumeDevices/publish/pv/pod")
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(device.Name(), target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(target, unix.MNT_DETACH)
	given := 0
	l := losses{Config: Config{Log: logr.Discard(), KubeletRoot: root, Events: countLost{&given}}}
	for _, test := range []struct {
		label string
		want  int
	}{{"another", 0}, {label, 1}} {
		l.giveUpAll(t.Context(), blockdev.Lost{Device: device.Name(), Label: test.label, Why: test.label})
		if given != test.want {
			t.Errorf("label %s: %d volumes were given up", test.label, given)
		}
	}
}

// TestFormerDevices: volumes whose devices a former mount server attached are given up, if the present one
// says which are its own.
func TestFormerDevices(t *testing.T) {
	_, device, _ := looptest.Attach(t, 1<<20)
	root := t.TempDir()
	devices := filepath.Join(root, "plugins/kubernetes.io/csi/volumeDevices")
	raw := func(name, driver string) string {
		t.Helper()
		target, data := filepath.Join(devices, "publish", name, "pod"), filepath.Join(devices, name, "data")
		if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.MkdirAll(data, 0o755)); err != nil {
			t.Fatal(err)
		}
		text := `{"driverName":"` + driver + `","volumeHandle":"v1.block.fast.` + name + `","specVolID":"` + name + `"}`
		if err := errors.Join(os.WriteFile(target, nil, 0o600),
			os.WriteFile(filepath.Join(data, "vol_data.json"), []byte(text), 0o600),
			unix.Mount(device.Name(), target, "", unix.MS_BIND, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
		return target
	}
	ours := raw("ours", "csi.atoll.storage")
	raw("theirs", "example.org")
	gone := mountpoint.Published{Path: filepath.Join(root, "gone"), Device: device.Name()}
	given := 0
	l := losses{Config: Config{Log: logr.Discard(), KubeletRoot: root, Events: countLost{&given}}}
	for name, test := range map[string]struct {
		attached []blockdev.Attached
		want     int
	}{
		"an older mount server": {nil, 0},
		"its own":               {[]blockdev.Attached{{Device: device.Name()}}, 0},
		"of another":            {[]blockdev.Attached{{Device: "/dev/loop"}}, 1},
	} {
		given, l.reports = 0, reports{}
		before, err := mountpoint.PublishedDevices(root)
		if err != nil || len(before) != 2 {
			t.Fatalf("published %v, %v", before, err)
		}
		l.giveUpFormer(t.Context(), append(before, gone), test.attached)
		if given != test.want {
			t.Errorf("%s: %d volumes were given up, not %d", name, given, test.want)
		}
	}
	before, err := mountpoint.PublishedDevices(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(ours, 0); err != nil { // detached meanwhile
		t.Fatal(err)
	}
	given, l.reports = 0, reports{}
	if l.giveUpFormer(t.Context(), before, []blockdev.Attached{}); given != 0 {
		t.Error("a volume was given up that was detached meanwhile")
	}
}

// countLost counts the events of lost volumes.
type countLost struct{ n *int }

func (c countLost) ClientDied(context.Context, string, string, time.Time, error) error { return nil }

func (c countLost) ClientHangs(context.Context, string, string, time.Time, bool) error { return nil }

func (c countLost) VolumeLost(context.Context, string, string, time.Time, error) error {
	*c.n++
	return nil
}

// TestNoticesWait: an event that cannot be written, because the cluster does not answer, is written when
// it does, in order and once.
func TestNoticesWait(t *testing.T) {
	var n notices
	var written []int
	reachable := false
	for i := range 3 {
		n.write(t.Context(), logr.Discard(), func(context.Context) error {
			if !reachable {
				return errors.New("no answer")
			}
			written = append(written, i)
			return nil
		})
	}
	n.flush(t.Context())
	if written != nil {
		t.Fatalf("written %v", written)
	}
	reachable = true
	for range 2 {
		n.flush(t.Context())
	}
	if !slices.Equal(written, []int{0, 1, 2}) {
		t.Errorf("written %v", written)
	}
}
