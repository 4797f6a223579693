package bricks

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/await"
)

// Writer appends lines to a file, each synced, until it is finished. It knows how long the
// longest line took.
type Writer struct {
	// Kept is set when the mount switched to a graph of other bricks while the file was open:
	// to the kernel, a process that opens it afterwards opens another inode, whose size it
	// caches for a second.
	Kept bool

	path string
	stop chan struct{}
	done chan error

	mu      sync.Mutex
	lines   int
	longest time.Duration
}

// attributeTimeout is how long the kernel caches attributes of a file (glusterfs 10:
// --attribute-timeout), and a little more.
const attributeTimeout = 1200 * time.Millisecond

// defaultPause leaves the processors to what is tested: a writer without a pause takes one of
// them.
const defaultPause = 10 * time.Millisecond

// StartWriter starts a writer.
func StartWriter(path string) *Writer { return StartPacedWriter(path, defaultPause) }

// StartPacedWriter starts a writer that pauses after every line.
func StartPacedWriter(path string, pause time.Duration) *Writer {
	w := &Writer{path: path, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { w.done <- w.run(pause) }()
	return w
}

func (w *Writer) run(pause time.Duration) error {
	f, err := os.Create(w.path)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		begin := time.Now()
		if _, err := fmt.Fprintf(f, "line %d\n", n); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		w.mu.Lock()
		w.lines, w.longest = n+1, max(w.longest, time.Since(begin))
		w.mu.Unlock()
		select {
		case <-w.stop:
			return f.Close()
		case <-time.After(pause):
		}
	}
}

// Lines is how many lines were synced.
func (w *Writer) Lines() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines
}

// Longest is the longest time that a line took until it was synced.
func (w *Writer) Longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest
}

// Progress waits until some more lines are synced.
func (w *Writer) Progress(t testing.TB, lines int) {
	t.Helper()
	want := w.Lines() + lines
	await.True(t, fmt.Sprintf("the writer has synced %d lines", want), func() bool { return w.Lines() >= want })
}

// Finish stops the writer and checks that no line failed and that the file has every line.
func (w *Writer) Finish(t testing.TB) {
	t.Helper()
	close(w.stop)
	if err := <-w.done; err != nil {
		t.Errorf("the writer failed: %v", err)
	}
	var want strings.Builder
	for i := range w.Lines() {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if w.Kept {
		time.Sleep(attributeTimeout)
	}
	for range 2 { // the second try tells lost lines from late ones
		text, err := os.ReadFile(w.path)
		if err == nil && string(text) == want.String() {
			break
		}
		at := 0
		for at < min(len(text), want.Len()) && text[at] == want.String()[at] {
			at++
		}
		t.Errorf("%d bytes of %d, wrong from byte %d: %q; %v", len(text), want.Len(), at,
			text[at:min(len(text), at+40)], err)
		time.Sleep(attributeTimeout)
	}
	t.Logf("%d synced lines, the longest took %s", w.Lines(), w.Longest().Round(time.Millisecond))
}
