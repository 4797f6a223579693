package source

import (
	"context"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long a folder must be without changes: what writes it may not be done.
const quiet = 500 * time.Millisecond

// watch tells of changes in the folder. A folder that is replaced as a whole, as git-sync
// does by pointing a symbolic link elsewhere, is seen from above. Where the kernel does not
// tell, the interval does.
func (f *Folder) watch(ctx context.Context) <-chan struct{} {
	changed := make(chan struct{}, 1)
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.Log.Error(err, "changes in the folder are seen each interval only", "interval", f.Interval.String())
		return changed
	}
	f.add(w)
	go func() {
		defer w.Close()
		settle := time.NewTimer(time.Hour)
		defer settle.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-w.Errors:
				f.Log.Error(err, "watching the folder")
			case <-w.Events:
				settle.Reset(quiet)
			case <-settle.C:
				f.add(w) // there may be other folders now
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return changed
}

// add watches the folder, all that are in it, and those that its links go through.
func (f *Folder) add(w *fsnotify.Watcher) {
	_ = w.Add(filepath.Dir(filepath.Clean(f.Dir))) // what cannot be watched is looked at each interval
	real, err := filepath.EvalSymlinks(f.Dir)
	if err != nil {
		return
	}
	_ = w.Add(filepath.Dir(real))
	_ = filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = w.Add(path)
		}
		return nil
	})
}
