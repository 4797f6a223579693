package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// copyWindow is after how many bytes what was copied is synced and noted.
	copyWindow = 64 << 20
	// copyStep is what one reader copies at a time, in bytes, and copiers how many there are:
	// a pool answers in parallel.
	copyStep = 1 << 20
	copiers  = 8
	// copyHole is the shortest run of zeros that is left out, in bytes: a file is new, and
	// has zeros where nothing was written.
	copyHole = 64 << 10
	// directBlock is what direct I/O is in whole ones of, in bytes.
	directBlock = 4096
)

// copyContent copies the bytes from done to size of a file to another one, without its holes,
// and notes from time to time up to where all is there and synced. Both are as long as size.
func copyContent(ctx context.Context, to, from *os.File, done, size int64, note func(done int64) error) error {
	for done < size {
		end := min(done+copyWindow, size)
		if err := copyBetween(ctx, to, from, done, end); err != nil {
			return err
		}
		if err := to.Sync(); err != nil {
			return fmt.Errorf("syncing: %w", err)
		}
		if err := note(end); err != nil {
			return err
		}
		done = end
	}
	return nil
}

// copyBetween copies the data of a window, several steps at once.
func copyBetween(ctx context.Context, to, from *os.File, at, end int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copiers)
	buffers := make(chan []byte, copiers)
	defer func() {
		close(buffers)
		for b := range buffers {
			_ = unix.Munmap(b) // it is nobody's any more
		}
	}()
	for at < end {
		data, hole, err := extent(from, at, end)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for at = data; at < hole; at += copyStep {
			offset, length := at, min(copyStep, hole-at)
			group.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				b, err := buffer(buffers)
				if err != nil {
					return err
				}
				defer func() { buffers <- b }()
				return copyStepAt(to, from, offset, b, int(length))
			})
		}
		at = hole
	}
	return group.Wait()
}

// buffer gives one that is aligned as direct I/O wants it.
func buffer(free chan []byte) ([]byte, error) {
	select {
	case b := <-free:
		return b, nil
	default:
	}
	b, err := unix.Mmap(-1, 0, copyStep, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("asking for a buffer: %w", err)
	}
	return b, nil
}

// copyStepAt copies one step, less the zeros in it.
func copyStepAt(to, from *os.File, offset int64, b []byte, length int) error {
	n, err := readDirect(from, b[:wholeBlocks(int64(length))], offset)
	if err != nil {
		return fmt.Errorf("reading at %d: %w", offset, err)
	}
	n = min(n, length)
	for part := 0; part < n; part += copyHole {
		p := b[part:min(part+copyHole, n)]
		if len(bytes.TrimLeft(p, "\x00")) == 0 {
			continue
		}
		if _, err := to.WriteAt(p, offset+int64(part)); err != nil {
			return fmt.Errorf("writing at %d: %w", offset+int64(part), err)
		}
	}
	return nil
}

// readDirect fills a buffer, or as much of it as there is before the file's end. It never
// asks for a part of a block, as os.File does after that end.
func readDirect(f *os.File, b []byte, offset int64) (n int, err error) {
	for n < len(b) {
		k, err := unix.Pread(int(f.Fd()), b[n:], offset+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, os.NewSyscallError("pread", err)
		}
		n += k
		if k == 0 || k%directBlock != 0 {
			break
		}
	}
	return n, nil
}

// extent gives the next run of data from an offset on, within a window, in whole steps of
// blocks: both are the window's end when there is none.
func extent(f *os.File, at, end int64) (data, hole int64, err error) {
	fd := int(f.Fd())
	data, err = unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return end, end, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return at, end, nil // it does not tell: all may be data
	case err != nil:
		return 0, 0, fmt.Errorf("looking for data from %d: %w", at, os.NewSyscallError("lseek", err))
	}
	if data >= end {
		return end, end, nil
	}
	if hole, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil {
		return 0, 0, fmt.Errorf("looking for a hole from %d: %w", data, os.NewSyscallError("lseek", err))
	}
	return data / directBlock * directBlock, min(wholeBlocks(hole), end), nil
}

// wholeBlocks rounds up.
func wholeBlocks(n int64) int64 { return (n + directBlock - 1) / directBlock * directBlock }
