package block

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/await"
)

// filer writes files into a directory one by one, each synced before the next, until it is
// finished or gets an error.
type filer struct {
	dir  string
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	synced  int // files
	begun   int
	longest time.Duration
	err     error
}

func startFiler(dir string) *filer {
	f := &filer{dir: dir, stop: make(chan struct{}), done: make(chan struct{})}
	go f.run()
	return f
}

func (f *filer) run() {
	defer close(f.done)
	for n := 1; ; n++ {
		select {
		case <-f.stop:
			return
		default:
		}
		f.mu.Lock()
		f.begun = n
		f.mu.Unlock()
		begin := time.Now()
		err := writeSynced(filepath.Join(f.dir, fmt.Sprint(n)), fileText(n))
		f.mu.Lock()
		f.longest = max(f.longest, time.Since(begin))
		if f.err = err; err == nil {
			f.synced = n
		}
		f.mu.Unlock()
		if err != nil {
			return
		}
		time.Sleep(pause)
	}
}

func fileText(n int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", n)), 1024) }

// counts returns how many files are synced, and how many were begun.
func (f *filer) counts() (synced, begun int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced, f.begun
}

// progress waits until some more files are synced.
func (f *filer) progress(t *testing.T, more int) {
	t.Helper()
	from, _ := f.counts()
	await.True(t, fmt.Sprintf("%d files more are synced", more), func() bool {
		now, _ := f.counts()
		return now >= from+more
	}, f.state)
}

// state describes the writer.
func (f *filer) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d files written, the longest took %s; %v", f.synced, f.longest.Round(time.Millisecond), f.err)
}

// finish ends the writer, which must not have got an error.
func (f *filer) finish(t *testing.T) {
	t.Helper()
	close(f.stop)
	<-f.done
	if f.err != nil {
		t.Errorf("the writer: %v", f.err)
	}
	t.Log(f.state())
}

// holdsFiles checks that a directory has all files up to one number, whole, and none after another.
func holdsFiles(t *testing.T, dir string, all, none int) {
	t.Helper()
	for n := 1; n <= none+100; n++ {
		got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(n)))
		switch {
		case n <= all && (err != nil || !bytes.Equal(got, fileText(n))):
			t.Errorf("file %d of %d has %d bytes: %v", n, all, len(got), err)
			return
		case n > none && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("the copy has file %d, which was begun after the copy was ready, at %d: %v", n, none, err)
			return
		}
	}
}
