package backend

import (
	"fmt"
	"sync"
)

// Space is the size of a pool and how much of it is used, in bytes.
type Space struct {
	Total int64
	Used  int64 // by volumes and by everything else
}

// Ledger counts the provisioned size of a pool. It is a cache of the records: a restart
// builds it again.
type Ledger struct {
	mu          sync.Mutex
	provisioned map[string]int64 // by volume
	total       int64
}

// NewLedger counts existing volumes.
func NewLedger(volumes []Volume) *Ledger {
	l := &Ledger{provisioned: map[string]int64{}}
	for _, v := range volumes {
		l.provisioned[v.Name] = v.Size
		l.total += v.Size
	}
	return l
}

// Reserve provisions a volume of this size, or grows one to it. Checking the space and
// reserving it are one step. ratio is how much may be provisioned per size of the pool: with 1,
// no more than its size. The returned function undoes the reservation.
func (l *Ledger) Reserve(name string, size int64, s Space, ratio float64) (undo func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.provisioned[name]
	if more := size - before; more > 0 {
		if free := l.free(s, ratio); more > free {
			return nil, fmt.Errorf("%w: %d bytes requested, %d of %d not provisioned", ErrExhausted, more, max(0, free),
				s.Total)
		}
		l.provisioned[name] = size
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

// free counts space that is used by anything besides volumes as provisioned too.
func (l *Ledger) free(s Space, ratio float64) int64 {
	return int64(float64(s.Total)*ratio) - max(l.total, s.Used)
}

// Free is how much can still be provisioned.
func (l *Ledger) Free(s Space, ratio float64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.free(s, ratio))
}

// Set sets the size of a volume to that in its record.
func (l *Ledger) Set(name string, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total += size - l.provisioned[name]
	l.provisioned[name] = size
}

// Forget removes a volume.
func (l *Ledger) Forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total -= l.provisioned[name]
	delete(l.provisioned, name)
}

// Provisioned returns the provisioned size in bytes, and the number of volumes.
func (l *Ledger) Provisioned() (bytes int64, volumes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, len(l.provisioned)
}
