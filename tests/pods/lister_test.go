package pods

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lister lists a directory and reads an attribute of it in a loop, and notes what is missing.
type lister struct {
	dir, attribute string
	want           []string

	stop    chan struct{}
	done    chan struct{}
	rounds  int
	retried int // listings that a brick's end broke off
	missing []string
}

// copies is the number of bricks that have the directory.
const copies = 3

func startLister(dir, attribute string, want []string) *lister {
	l := &lister{dir: dir, attribute: attribute, want: want, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for ; ; l.rounds++ {
			select {
			case <-l.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if err := l.list(); err != nil {
				l.missing = append(l.missing, fmt.Sprintf("%v, in round %d", err, l.rounds))
			}
		}
	}()
	return l
}

// list lists once. When the brick that is being read ends, the listing ends with ENOTCONN:
// positions in a directory belong to a brick. The next listing has another brick, so that as many
// may break off as there are copies.
func (l *lister) list() error {
	entries, err := os.ReadDir(l.dir)
	for range copies {
		if !errors.Is(err, unix.ENOTCONN) {
			break
		}
		l.retried++
		entries, err = os.ReadDir(l.dir)
	}
	if err != nil {
		return err
	}
	for _, name := range l.want {
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == name }) {
			return fmt.Errorf("%s is missing", name)
		}
	}
	if _, err := unix.Getxattr(l.dir, l.attribute, nil); err != nil {
		return fmt.Errorf("read the attribute: %w", err)
	}
	return nil
}

func (l *lister) finish(t *testing.T) {
	t.Helper()
	close(l.stop)
	<-l.done
	t.Logf("listed %d times, %d listings broke off", l.rounds, l.retried)
	if len(l.missing) > 0 {
		t.Errorf("%d listings lacked something: %v", len(l.missing), l.missing[:min(5, len(l.missing))])
	}
}
