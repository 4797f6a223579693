package repair

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/internal/linux/loop/looptest"
)

// answers are what a mount server answers, one after the other.
type answers []error

func (a *answers) Lost(context.Context) ([]blockdev.Lost, error) {
	err := (*a)[0]
	*a = (*a)[1:]
	return nil, err
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

// countLost counts the events of lost volumes.
type countLost struct{ n *int }

func (c countLost) ClientDied(context.Context, string, string, error) {}
func (c countLost) VolumeLost(context.Context, string, string, error) { *c.n++ }
