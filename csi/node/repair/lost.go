package repair

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
)

// losses shuts down the file systems of block volumes that the node has lost.
type losses struct {
	Config
	reports reports
}

// shutDownAll shuts down the file systems of lost volumes, and writes events of their pods.
// They stay mounted: below the mount is a directory of the node, to which a pod would write.
func (l *losses) shutDownAll(ctx context.Context) {
	if l.Losses == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	all, err := l.Losses.Lost(ctx)
	if isNew := l.reports.isNew("", err); err != nil {
		if isNew {
			l.Log.Info("cannot ask the mount server which volumes are lost; trying again", "error", err.Error())
		}
		return
	}
	for _, one := range all {
		l.giveUpAll(ctx, one)
	}
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
		l.Events.VolumeLost(ctx, pod, volume, why)
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
