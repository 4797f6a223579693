package bricks

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Writer appends lines to a file, each synced, until it is finished, and knows how long
// the longest took.
type Writer struct {
	Lines   int
	Longest time.Duration
	// Kept is set when the mount took a graph of other bricks while the file was open: to
	// the kernel, who opens it then opens another file, whose size it knows for a second.
	Kept bool

	path  string
	pause time.Duration
	stop  atomic.Bool
	done  chan error
}

// attributeTimeout is for how long the kernel takes what it was told of a file for true
// (glusterfs 10: --attribute-timeout), and a little more.
const attributeTimeout = 1200 * time.Millisecond

// StartWriter starts one.
func StartWriter(path string) *Writer { return StartPacedWriter(path, 0) }

// StartPacedWriter starts one that pauses after every line.
func StartPacedWriter(path string, pause time.Duration) *Writer {
	w := &Writer{path: path, pause: pause, done: make(chan error, 1)}
	go func() { w.done <- w.run() }()
	return w
}

func (w *Writer) run() error {
	f, err := os.Create(w.path)
	if err != nil {
		return err
	}
	for !w.stop.Load() {
		begin := time.Now()
		if _, err := fmt.Fprintf(f, "line %d\n", w.Lines); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		w.Lines++
		w.Longest = max(w.Longest, time.Since(begin))
		time.Sleep(w.pause)
	}
	return f.Close()
}

// Finish stops the writer and holds that no line failed and that every line is there.
func (w *Writer) Finish(t *testing.T) {
	t.Helper()
	w.stop.Store(true)
	if err := <-w.done; err != nil {
		t.Errorf("the writer: %v", err)
	}
	var want strings.Builder
	for i := range w.Lines {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	if w.Kept {
		time.Sleep(attributeTimeout)
	}
	for range 2 { // the second time tells what is lost from what is late
		text, err := os.ReadFile(w.path)
		if err == nil && string(text) == want.String() {
			break
		}
		at := 0
		for at < min(len(text), want.Len()) && text[at] == want.String()[at] {
			at++
		}
		t.Errorf("%d bytes of %d, the first that is wrong is %d: %q; %v", len(text), want.Len(), at, text[at:min(len(text), at+40)], err)
		time.Sleep(2 * time.Second)
	}
	t.Logf("%d synced lines, the longest took %s", w.Lines, w.Longest.Round(time.Millisecond))
}
