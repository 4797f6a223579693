package mounts

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// logSuffix ends the names of clients' logs, and a further suffix those of what was logged before.
const logSuffix = ".log"

// maxLog is how long the log of a client gets, in bytes. A second file has what was logged before.
// Clients log on the disk of the kubelet, and for as long as a brick is away.
const maxLog = 8 << 20

// rotateLogs moves what clients have logged to the second file where that has become long.
func (c *Clients) rotateLogs() {
	c.mu.Lock()
	keys := slices.Collect(maps.Keys(c.clients))
	c.mu.Unlock()
	for _, key := range keys {
		if err := rotateLog(filepath.Join(c.dir, key+logSuffix), maxLog); err != nil {
			c.log.Error(err, "the log of a client cannot be shortened", "key", key)
		}
	}
}

// rotateLog copies a log and empties it. The client, which appends to it, keeps it open.
func rotateLog(path string, limit int64) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() <= limit {
		return nil
	}
	if err != nil {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	// The end is what matters, should much have been logged since the last look.
	if _, err := from.Seek(max(0, info.Size()-limit), io.SeekStart); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if _, err := io.Copy(to, io.LimitReader(from, limit)); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return os.Truncate(path, 0)
}
