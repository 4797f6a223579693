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

// lister lists a folder again and again, and looks at an attribute of it, until it is
// told to stop. It knows how often something was missing.
type lister struct {
	dir, attribute string
	want           []string

	stop    chan struct{}
	done    chan struct{}
	rounds  int
	broken  int // listings that ended with an error, as their brick has gone
	missing []string
}

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

// list lists once. When the brick that is read goes, a listing ends with an error, which
// is no lie: the next one has another brick.
func (l *lister) list() error {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, unix.ENOTCONN) {
		l.broken++
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
		return fmt.Errorf("the attribute: %w", err)
	}
	return nil
}

func (l *lister) finish(t *testing.T) {
	t.Helper()
	close(l.stop)
	<-l.done
	t.Logf("listed %d times, %d of them in a second try", l.rounds, l.broken)
	if len(l.missing) > 0 {
		t.Errorf("%d times something was missing, such as %v", len(l.missing), l.missing[:min(5, len(l.missing))])
	}
}
