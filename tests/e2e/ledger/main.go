// Command ledger writes to a volume and records every acknowledged write in a ledger, so that
// later, and on another node, every byte can be verified.
//
//	ledger write DIR LEDGER    until SIGTERM
//	ledger check DIR <LEDGER   report missing and wrong writes as JSON
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	blockSize = 4096
	fileEvery = 8 // every eighth write is a new file instead of a block of the long one
	pause     = 10 * time.Millisecond
	retry     = 100 * time.Millisecond
)

// entry is one line of the ledger: a write that was synced without an error, or an error.
type entry struct {
	N      int       // number of the write, from 0
	At     time.Time // when it began
	Micros int64     `json:",omitempty"` // until it was synced, including all attempts
	Error  string    `json:",omitempty"` // of one attempt; the write is retried
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "write":
		return write(args[1], args[2])
	case len(args) == 2 && args[0] == "check":
		return check(args[1], os.Stdin, os.Stdout)
	}
	return errors.New("usage: ledger write DIR LEDGER | ledger check DIR <LEDGER")
}

func write(dir, ledger string) error {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	l, err := os.OpenFile(ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w := &writer{dir: dir, ledger: json.NewEncoder(l)}
	if w.next, err = count(ledger); err != nil {
		return err
	}
	for {
		select {
		case <-end:
			return nil
		case <-time.After(pause):
		}
		if err := w.one(end); err != nil {
			return err
		}
	}
}

// count returns the number of the next write, after the last one in a ledger.
func count(ledger string) (int, error) {
	f, err := os.Open(ledger)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	next := 0
	err = each(f, func(e entry) { next = max(next, e.N+1) })
	return next, err
}

type writer struct {
	dir    string
	ledger *json.Encoder
	next   int
	blocks *os.File // the long file; nil if it must be opened
}

// one repeats the next write until it succeeds, and records it.
func (w *writer) one(end <-chan os.Signal) error {
	e := entry{N: w.next, At: time.Now()}
	for {
		err := w.try(w.next)
		if err == nil {
			break
		}
		if w.blocks != nil {
			w.blocks.Close()
			w.blocks = nil
		}
		if err := w.ledger.Encode(entry{N: e.N, At: time.Now(), Error: cause(err)}); err != nil {
			return err
		}
		select {
		case <-end:
			return nil
		case <-time.After(retry):
		}
	}
	e.Micros = time.Since(e.At).Microseconds()
	w.next++
	return w.ledger.Encode(e)
}

// cause is the errno of an error, in words.
func cause(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}

func (w *writer) try(n int) error {
	if n%fileEvery == 0 {
		return newFile(w.dir, n)
	}
	if w.blocks == nil {
		f, err := os.OpenFile(filepath.Join(w.dir, "blocks"), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		w.blocks = f
	}
	if _, err := w.blocks.WriteAt(pattern(n), int64(n)*blockSize); err != nil {
		return err
	}
	return w.blocks.Sync()
}

// newFile writes a temporary file, syncs, renames and syncs the directory, as careful
// programs do.
func newFile(dir string, n int) error {
	name := filepath.Join(dir, strconv.Itoa(n))
	f, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	_, err = f.Write(pattern(n))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".part", name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// pattern is the content of write n, unique to it.
func pattern(n int) []byte {
	b := make([]byte, blockSize)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 1})
	_, _ = r.Read(b) // never fails
	return b
}

// report is the result of check.
type report struct {
	Writes  int
	Whole   int            // number of writes before the first lost one
	Lost    []string       `json:",omitempty"` // the first of them
	Missing int            // number of lost writes
	Longest int64          // milliseconds
	At      time.Time      // when the longest write began
	Errors  map[string]int `json:",omitempty"`
}

// enough bounds the number of lost writes that are named.
const enough = 10

func check(dir string, ledger io.Reader, out io.Writer) error {
	r := report{Errors: map[string]int{}}
	blocks, err := os.Open(filepath.Join(dir, "blocks"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = each(ledger, func(e entry) {
		if e.Error != "" {
			r.Errors[e.Error]++
			return
		}
		r.Writes++
		if ms := e.Micros / 1000; ms > r.Longest {
			r.Longest, r.At = ms, e.At
		}
		if err := verify(dir, blocks, e.N); err != nil {
			if r.Missing++; len(r.Lost) < enough {
				r.Lost = append(r.Lost, err.Error())
			}
		} else if r.Missing == 0 {
			r.Whole++
		}
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

func verify(dir string, blocks *os.File, n int) error {
	have := make([]byte, blockSize)
	if n%fileEvery == 0 {
		text, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(n)))
		if err != nil {
			return err
		}
		have = text
	} else if _, err := blocks.ReadAt(have, int64(n)*blockSize); err != nil {
		return fmt.Errorf("block %d: %w", n, err)
	}
	if !bytes.Equal(have, pattern(n)) {
		return fmt.Errorf("write %d has other content", n)
	}
	return nil
}

// each calls do for every entry. An incomplete last line, of a killed writer, is skipped.
func each(r io.Reader, do func(entry)) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue
		}
		do(e)
	}
	return lines.Err()
}
