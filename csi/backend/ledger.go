package backend

import (
	"fmt"
	"sync"
)

// Space is what a pool has, in bytes.
type Space struct {
	Total int64
	Used  int64 // by volumes and by everything else
}

// Ledger is what a pool has promised. It is a cache of the records: a restart
// makes it anew.
type Ledger struct {
	mu       sync.Mutex
	promised map[string]int64 // by volume
	total    int64
}

// NewLedger counts the volumes that are there.
func NewLedger(volumes []Volume) *Ledger {
	l := &Ledger{promised: map[string]int64{}}
	for _, v := range volumes {
		l.promised[v.Name] = v.Size
		l.total += v.Size
	}
	return l
}

// Reserve promises a volume of this size, or more to one that is there. Looking
// at the space and promising it are one step. ratio is how much may be promised
// of what the pool has: 1 is no more than there is. The returned function takes
// the promise back.
func (l *Ledger) Reserve(name string, size int64, s Space, ratio float64) (undo func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.promised[name]
	if more := size - before; more > 0 {
		if free := l.free(s, ratio); more > free {
			return nil, fmt.Errorf("%w: %d bytes are asked for, %d of %d are free after what is promised", ErrExhausted, more, max(0, free), s.Total)
		}
		l.promised[name] = size
		l.total += more
	}
	return func() {
		if known {
			l.Set(name, before)
		} else {
			l.Forget(name)
		}
	}, nil
}

// free counts what others than volumes use as promised too.
func (l *Ledger) free(s Space, ratio float64) int64 {
	return int64(float64(s.Total)*ratio) - max(l.total, s.Used)
}

// Free is what can still be promised.
func (l *Ledger) Free(s Space, ratio float64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.free(s, ratio))
}

// Set notes the size of a volume as its record has it.
func (l *Ledger) Set(name string, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total += size - l.promised[name]
	l.promised[name] = size
}

// Forget takes a volume out.
func (l *Ledger) Forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total -= l.promised[name]
	delete(l.promised, name)
}

// Promised is the sum of all volumes, in bytes, and their number.
func (l *Ledger) Promised() (bytes int64, volumes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, len(l.promised)
}
