package block

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/tests/internal/await"
)

const (
	// page is the size of a write, in bytes.
	page = 4096
	// pause is between two writes: without it, a writer takes a processor from what is tested.
	pause = 10 * time.Millisecond
	// errorPause is after a write that failed.
	errorPause = 10 * time.Millisecond
)

// writer writes pages all over a device, each synced before the next, and remembers which were
// acknowledged. Every page contains who wrote it, where, and when.
type writer struct {
	who   string
	first int64 // page
	pages int64
	text  []byte // of the page, aligned for direct I/O
	stop  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	acked   map[int64]uint64 // by page: the last write that was acknowledged
	tried   map[int64]uint64 // by page: the last write that began
	begun   uint64           // the last write that began
	ok      int
	failed  int
	longest time.Duration
	err     error // the last
}

var table = crc64.MakeTable(crc64.ECMA)

// startWriter writes to a device until finish, also after errors.
func startWriter(who, device string, size int64) *writer {
	return startWriterAt(who, device, 0, size)
}

// startWriterAt is startWriter for a part of a device, in bytes.
func startWriterAt(who, device string, first, size int64) *writer {
	w := &writer{
		who: who, first: first / page, pages: size / page, text: aligned(), stop: make(chan struct{}),
		done:  make(chan struct{}),
		acked: map[int64]uint64{}, tried: map[int64]uint64{},
	}
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
				time.Sleep(errorPause)
				continue
			}
		}
		at := w.first + int64(n*2654435761%uint64(w.pages)) // a multiplier that visits all pages
		w.mu.Lock()
		w.tried[at], w.begun = n, n
		w.mu.Unlock()
		begin := time.Now()
		_, err = f.WriteAt(w.content(at, n), at*page)
		if err == nil {
			err = f.Sync()
		}
		w.note(at, n, time.Since(begin), err)
		if err != nil {
			time.Sleep(errorPause)
		} else {
			time.Sleep(pause)
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
}

// content fills the page.
func (w *writer) content(at int64, n uint64) []byte {
	p := w.text
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

// counts returns how many writes were acknowledged and refused.
func (w *writer) counts() (ok, failed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ok, w.failed
}

// progress waits until some more writes are acknowledged.
func (w *writer) progress(t *testing.T, more int) {
	t.Helper()
	from, _ := w.counts()
	await.True(t, fmt.Sprintf("%s has %d writes more acknowledged", w.who, more), func() bool {
		now, _ := w.counts()
		return now >= from+more
	}, w.state)
}

// refusals waits until some more writes are refused.
func (w *writer) refusals(t *testing.T, more int) {
	t.Helper()
	_, from := w.counts()
	await.True(t, fmt.Sprintf("%s has %d writes more refused", w.who, more), func() bool {
		_, now := w.counts()
		return now >= from+more
	}, w.state)
}

// last returns the number of the last write that began.
func (w *writer) last() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begun
}

// state describes the writer.
func (w *writer) state() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%s: %d writes acknowledged, %d refused (%v), the longest took %s", w.who, w.ok, w.failed, w.err,
		w.longest.Round(time.Millisecond))
}

// finish ends the writer. It does not wait for a write that hangs.
func (w *writer) finish() {
	close(w.stop)
	select {
	case <-w.done:
	case <-time.After(30 * time.Second):
	}
}

// check reads every acknowledged page from a device: it has the content of the last
// acknowledged write, or of a later write that was not acknowledged.
func (w *writer) check(t *testing.T, device string) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.mu.Lock()
	lost := 0
	p := aligned()
	for at, n := range w.acked {
		if _, err := f.ReadAt(p, at*page); err != nil {
			w.mu.Unlock()
			t.Fatalf("read page %d: %v", at, err)
		}
		got := numberOf(p)
		whole := binary.LittleEndian.Uint64(p[32:]) == crc64.Checksum(p[40:], table) &&
			binary.LittleEndian.Uint64(p[16:]) == uint64(at)
		if !whole || !bytes.HasPrefix(p, []byte(w.who)) || got < n || got > w.tried[at] {
			lost++
			if lost < 5 {
				t.Errorf("page %d: acknowledged was %s %d, read %q %d (whole: %t)", at, w.who, n, p[:16], got, whole)
			}
		}
	}
	pages := len(w.acked)
	w.mu.Unlock()
	t.Logf("%s; %d of %d pages are lost", w.state(), lost, pages)
}

func numberOf(p []byte) uint64 { return binary.LittleEndian.Uint64(p[24:]) }

// absentAfter checks that no write of this writer after a number is on a device.
func (w *writer) absentAfter(t *testing.T, device string, n uint64) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.mu.Lock()
	tried := maps.Clone(w.tried)
	w.mu.Unlock()
	p := aligned()
	for at, last := range tried {
		if last <= n {
			continue
		}
		if _, err := f.ReadAt(p, at*page); err != nil {
			t.Fatalf("read page %d: %v", at, err)
		}
		if bytes.HasPrefix(p, []byte(w.who)) && numberOf(p) > n {
			t.Errorf("page %d has write %d of %s, which began after its volume was taken over", at, numberOf(p), w.who)
		}
	}
}
