package repair

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/schema"
)

// losses shuts down the file systems of block volumes that the node has lost.
type losses struct {
	Config
	reports reports
	notices notices
}

// shutDownAll shuts down the file systems of lost volumes, and writes events of their pods.
// They stay mounted: below the mount is a directory of the node, to which a pod would write.
func (l *losses) shutDownAll(ctx context.Context) {
	if l.Losses == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	before, err := mountpoint.PublishedDevices(l.KubeletRoot) // before the mount server is asked: see former
	var all blockdev.Losses
	if err == nil {
		all, err = l.Losses.Lost(ctx)
	}
	if isNew := l.reports.isNew("", err); err != nil {
		if isNew {
			l.Log.Info("cannot ask the mount server which volumes are lost; trying again", "error", err.Error())
		}
		return
	}
	for _, one := range all.Lost {
		l.giveUpAll(ctx, one)
	}
	l.giveUpFormer(ctx, before, all.Attached)
}

// errFormer is why volumes are lost whose device the mount server does not know.
var errFormer = errors.New("its GlusterFS client ended with the former process of the mounter")

// giveUpFormer gives up the volumes whose devices a former mount server attached. They are those that
// were published before this one was asked for its devices, and still are: it attaches a device before
// the device is published, and detaches it afterwards.
func (l *losses) giveUpFormer(ctx context.Context, before []mountpoint.Published, attached []blockdev.Attached) {
	if attached == nil {
		return // a mount server that does not list them
	}
	former := slices.DeleteFunc(before, func(p mountpoint.Published) bool {
		return slices.ContainsFunc(attached, func(a blockdev.Attached) bool { return a.Device == p.Device })
	})
	if len(former) == 0 {
		return
	}
	now, err := mountpoint.PublishedDevices(l.KubeletRoot)
	if err != nil {
		return
	}
	for _, p := range former {
		if slices.Contains(now, p) && l.isOurs(p.Path) {
			l.giveUp(ctx, p.Path, errFormer)
		}
	}
}

// isOurs reports whether a path has a block volume of this driver.
func (l *losses) isOurs(path string) bool {
	v, err := readVolume(l.KubeletRoot, path)
	if err != nil {
		v, err = readRawVolume(l.KubeletRoot, path)
	}
	return err == nil && v.id.Layout == schema.Block
}

// giveUpAll gives up a lost volume wherever it is published.
func (l *losses) giveUpAll(ctx context.Context, lost blockdev.Lost) {
	if lost.Label != "" { // a mount server before it sent labels sends none
		device, err := loop.Open(lost.Device, lost.Label)
		if errors.Is(err, fs.ErrNotExist) {
			return // another volume has the device since the list was made
		}
		if err == nil {
			defer device.Close() // while it is open, no other volume gets it
		}
	}
	paths, err := mountpoint.PublishedDevice(l.KubeletRoot, lost.Device)
	if err != nil {
		return
	}
	for _, path := range paths {
		l.giveUp(ctx, path, errors.New(lost.Why))
	}
}

// giveUp keeps pods from reading a lost volume, and reports it once.
func (l *losses) giveUp(ctx context.Context, path string, why error) {
	if !l.reports.isNew(path, why) {
		return
	}
	if err := l.shutDown(path); err != nil {
		l.Log.Info("file system of a lost volume not shut down", "path", path, "error", err.Error())
	}
	pod, volume := podOf(l.KubeletRoot, path)
	if pod != "" && l.Events != nil {
		since := time.Now()
		l.notices.write(ctx, l.Log, func(ctx context.Context) error {
			return l.Events.VolumeLost(ctx, pod, volume, since, why)
		})
	}
}

func (l *losses) shutDown(path string) error {
	at, err := mountpoint.Find(l.KubeletRoot, path)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	in, err := at.Parent.OpenDir(at.Name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EIO) {
		return nil // a device, or it is shut down
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return filesystem.Shutdown(in)
}
