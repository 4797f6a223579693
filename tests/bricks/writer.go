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

	path  string
	pause time.Duration
	stop  atomic.Bool
	done  chan error
}

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
	text, err := os.ReadFile(w.path)
	if err != nil || strings.Count(string(text), "\n") != w.Lines {
		t.Errorf("%d lines of %d, %v", strings.Count(string(text), "\n"), w.Lines, err)
	}
	t.Logf("%d synced lines, the longest took %s", w.Lines, w.Longest.Round(time.Millisecond))
}
