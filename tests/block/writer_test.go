package block

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// page is what is written at a time, in bytes.
const page = 4096

// writer writes pages all over a device, each synced before the next, and remembers what was
// acknowledged. Every page says who wrote it, where, and when.
type writer struct {
	who   string
	first int64 // page
	pages int64
	// dense writes the pages one after another, else they are spread.
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	acked   map[int64]uint64 // by page: the last that was acknowledged
	tried   map[int64]uint64 // by page: the last that was begun
	ok      int
	failed  int
	longest time.Duration
	last    time.Time // of the last acknowledgement
	err     error     // the last
}

var table = crc64.MakeTable(crc64.ECMA)

// startWriter writes to a device until finish, on through errors.
func startWriter(who, device string, size int64) *writer {
	return startWriterAt(who, device, 0, size)
}

// startWriterAt is startWriter for a part of a device, in bytes.
func startWriterAt(who, device string, first, size int64) *writer {
	w := &writer{who: who, first: first / page, pages: size / page, stop: make(chan struct{}), done: make(chan struct{}), acked: map[int64]uint64{}, tried: map[int64]uint64{}}
	go w.run(device)
	return w
}

func (w *writer) run(device string) {
	defer close(w.done)
	var f *os.File
	defer func() { f.Close() }()
	for n := uint64(1); ; n++ {
		select {
		case <-w.stop:
			return
		default:
		}
		var err error
		if f == nil {
			if f, err = os.OpenFile(device, os.O_RDWR|unix.O_DIRECT, 0); err != nil {
				w.note(0, 0, 0, err)
				time.Sleep(10 * time.Millisecond)
				continue
			}
		}
		at := int64(n*2654435761) % w.pages // all over it
		if at < 0 {
			at = -at
		}
		at += w.first
		w.mu.Lock()
		w.tried[at] = n
		w.mu.Unlock()
		begin := time.Now()
		_, err = f.WriteAt(w.text(at, n), at*page)
		if err == nil {
			err = f.Sync()
		}
		w.note(at, n, time.Since(begin), err)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (w *writer) note(at int64, n uint64, took time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, took)
	if err != nil {
		w.failed++
		w.err = err
		return
	}
	w.ok++
	w.acked[at] = n
	w.last = time.Now()
}

// text is the page's contents, aligned for direct I/O.
func (w *writer) text(at int64, n uint64) []byte {
	p := aligned()
	copy(p, fmt.Sprintf("%-16s", w.who))
	binary.LittleEndian.PutUint64(p[16:], uint64(at))
	binary.LittleEndian.PutUint64(p[24:], n)
	for i := 40; i < page; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], n^uint64(i))
	}
	binary.LittleEndian.PutUint64(p[32:], crc64.Checksum(p[40:], table))
	return p
}

func aligned() []byte {
	p, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return p
}

// counts tells how many writes were acknowledged and refused so far.
func (w *writer) counts() (ok, failed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ok, w.failed
}

// finish ends the writer. One that hangs is left behind.
func (w *writer) finish() {
	close(w.stop)
	select {
	case <-w.done:
	case <-time.After(30 * time.Second):
	}
}

// check reads all that was acknowledged from a device: each page is that, or one that was
// begun later and was not acknowledged.
func (w *writer) check(t *testing.T, device string) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := 0
	p := aligned()
	for at, n := range w.acked {
		if _, err := f.ReadAt(p, at*page); err != nil {
			t.Fatalf("reading page %d: %v", at, err)
		}
		got := binary.LittleEndian.Uint64(p[24:])
		whole := binary.LittleEndian.Uint64(p[32:]) == crc64.Checksum(p[40:], table) && binary.LittleEndian.Uint64(p[16:]) == uint64(at)
		if !whole || !bytes.HasPrefix(p, []byte(w.who)) || got < n || got > w.tried[at] {
			lost++
			if lost < 5 {
				t.Errorf("page %d: acknowledged was %s %d, there is %q %d (whole: %t)", at, w.who, n, p[:16], got, whole)
			}
		}
	}
	t.Logf("%s: %d writes acknowledged, %d refused (%v), the longest took %s; %d of %d pages are lost", w.who, w.ok, w.failed, w.err, w.longest.Round(time.Millisecond), lost, len(w.acked))
}
