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
	// copyWindow is how many bytes are copied between two syncs and notes of progress.
	copyWindow = 64 << 20
	// copyStep is what one reader copies at a time, in bytes, and copiers is the number of
	// readers: a pool serves requests in parallel.
	copyStep = 1 << 20
	copiers  = 8
	// copyHole is the shortest run of zeros that is not written, in bytes: a new file has
	// zeros where nothing was written.
	copyHole = 64 << 10
	// directBlock is the unit of direct I/O, in bytes.
	directBlock = 4096
)

// copyContent copies the bytes from done to size from one file to another without holes. It
// calls note after each window with the number of bytes that are copied and synced. Both files
// have this size.
func copyContent(ctx context.Context, to, from *os.File, done, size int64, note func(done int64) error) error {
	for done < size {
		end := min(done+copyWindow, size)
		if err := copyRange(ctx, to, from, done, end); err != nil {
			return err
		}
		if err := to.Sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		if err := note(end); err != nil {
			return err
		}
		done = end
	}
	return nil
}

// copyRange copies the data of a window, several steps in parallel.
func copyRange(ctx context.Context, to, from *os.File, at, end int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copiers)
	buffers := make(chan []byte, copiers)
	defer func() {
		close(buffers)
		for b := range buffers {
			_ = unix.Munmap(b) // no reader uses it any more
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
				b, err := takeBuffer(buffers)
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

// takeBuffer returns a buffer that is aligned for direct I/O.
func takeBuffer(free chan []byte) ([]byte, error) {
	select {
	case b := <-free:
		return b, nil
	default:
	}
	b, err := unix.Mmap(-1, 0, copyStep, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("allocate a buffer: %w", err)
	}
	return b, nil
}

// copyStepAt copies one step without runs of zeros.
func copyStepAt(to, from *os.File, offset int64, b []byte, length int) error {
	n, err := readDirect(from, b[:roundUp(int64(length))], offset)
	if err != nil {
		return fmt.Errorf("read at %d: %w", offset, err)
	}
	n = min(n, length)
	for part := 0; part < n; part += copyHole {
		p := b[part:min(part+copyHole, n)]
		if len(bytes.TrimLeft(p, "\x00")) == 0 {
			continue
		}
		if _, err := to.WriteAt(p, offset+int64(part)); err != nil {
			return fmt.Errorf("write at %d: %w", offset+int64(part), err)
		}
	}
	return nil
}

// readDirect fills a buffer, or as much of it as precedes the file's end. Unlike os.File at that
// end, it never reads a part of a block.
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

// extent returns the next run of data from an offset on, within a window, in whole blocks: both
// are the window's end when there is none.
func extent(f *os.File, at, end int64) (data, hole int64, err error) {
	fd := int(f.Fd())
	data, err = unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return end, end, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return at, end, nil // not supported: all may be data
	case err != nil:
		return 0, 0, fmt.Errorf("seek data from %d: %w", at, os.NewSyscallError("lseek", err))
	}
	if data >= end {
		return end, end, nil
	}
	if hole, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil {
		return 0, 0, fmt.Errorf("seek hole from %d: %w", data, os.NewSyscallError("lseek", err))
	}
	return data / directBlock * directBlock, min(roundUp(hole), end), nil
}

// roundUp rounds up to whole blocks.
func roundUp(n int64) int64 { return (n + directBlock - 1) / directBlock * directBlock }
