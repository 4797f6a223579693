package driver

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
)

// lost shuts down the file systems of volumes that this node has lost, and tells their pods.
// What is mounted stays: below it are folders of the node, and a pod would write there.
func (w *watcher) lost(ctx context.Context) {
	if w.n.d.Blocks == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	all, err := w.n.d.Blocks.Lost(ctx)
	if err != nil {
		w.n.d.Log.Info("cannot ask for lost volumes", "error", err.Error())
		return
	}
	for _, one := range all {
		paths, err := published(w.n.d.KubeletRoot, one.Device)
		if err != nil {
			continue
		}
		for _, path := range paths {
			w.giveUp(ctx, one, path)
		}
	}
}

// giveUp makes sure that nothing is read from a lost volume, and says so once.
func (w *watcher) giveUp(ctx context.Context, one blockdev.Lost, path string) {
	why := errors.New(one.Why)
	if !w.isNews(path, why) {
		return
	}
	if err := w.shutdown(path); err != nil {
		w.n.d.Log.Info("a lost volume's file system is not shut down", "path", path, "error", err.Error())
	}
	pod, volume := w.podOf(path)
	if pod != "" && w.n.d.Events != nil {
		w.n.d.Events.VolumeLost(ctx, pod, volume, why)
	}
}

func (w *watcher) shutdown(path string) error {
	at, err := w.n.target(path, false)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	in, err := at.parent.OpenDir(at.name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EIO) {
		return nil // a device, or it is shut down
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return filesystem.Shutdown(in)
}

// podOf tells whose path this is: raw volumes are below
// <root>/plugins/kubernetes.io/csi/volumeDevices/publish/<volume>/<pod's UID>.
func (w *watcher) podOf(path string) (pod, persistentVolume string) {
	if known, err := w.n.known(path); err == nil {
		return known.pod, known.persistentVolume
	}
	below, _ := filepath.Rel(w.n.d.KubeletRoot, path)
	part := strings.Split(below, "/")
	if len(part) == 7 && part[3] == "volumeDevices" && part[4] == "publish" {
		return part[6], part[5]
	}
	return "", ""
}
