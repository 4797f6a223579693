package source

import (
	"context"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// debounce is how long the directory must be unchanged before it is read: its writer may not be done.
const debounce = 500 * time.Millisecond

// watch reports changes in the directory. It also watches the parent, because git-sync replaces
// the directory by pointing a symbolic link elsewhere. Changes that inotify misses are found at
// the next interval.
func (f *Folder) watch(ctx context.Context) <-chan struct{} {
	changed := make(chan struct{}, 1)
	w, err := fsnotify.NewWatcher()
	if err != nil {
		f.Log.Error(err, "cannot watch the directory; changes are found at each interval only", "interval",
			f.Interval.String())
		return changed
	}
	f.add(w)
	go func() {
		defer w.Close()
		quiet := time.NewTimer(time.Hour)
		defer quiet.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-w.Errors:
				f.Log.Error(err, "watching the directory failed")
			case <-w.Events:
				quiet.Reset(debounce)
			case <-quiet.C:
				f.add(w) // subdirectories may have been added
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
	}()
	return changed
}

// add watches the directory, its subdirectories, and the parents of its symbolic link and target.
func (f *Folder) add(w *fsnotify.Watcher) {
	_ = w.Add(filepath.Dir(filepath.Clean(f.Dir))) // without a watch, changes are found at each interval
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
