package bricks

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/tests/internal/await"
)

// dumpDir is where GlusterFS 10 writes statedumps, as BRICK.PID.dump.TIME. In a sandbox it is
// empty at first, and no other process writes there.
const dumpDir = "/run/gluster"

// Locks lists the POSIX locks of clients at a brick: lines of a statedump such as
//
//	posixlk.posixlk[0](ACTIVE)=type=WRITE, ..., connection-id=CTX_ID:...-PID:17-HOST:..., ...
func (c *Cluster) Locks(brick int) []string {
	c.t.Helper()
	process := c.Bricks[brick].Process
	pattern := filepath.Join(dumpDir, fmt.Sprintf("*.%d.dump.*", process.Pid))
	if err := process.Signal(unix.SIGUSR1); err != nil {
		c.t.Fatalf("request a statedump of brick %d: %v", brick, err)
	}
	var dump []byte
	await.True(c.t, fmt.Sprintf("brick %d has written a statedump", brick), func() bool {
		found, _ := filepath.Glob(pattern)
		if len(found) == 0 {
			return false
		}
		dump, _ = os.ReadFile(found[0])
		return bytes.Contains(dump, []byte("DUMP-END-TIME"))
	})
	found, _ := filepath.Glob(pattern)
	for _, path := range found {
		_ = os.Remove(path)
	}
	var locks []string
	for line := range strings.Lines(string(dump)) {
		if strings.HasPrefix(line, "posixlk.posixlk[") {
			locks = append(locks, strings.TrimSpace(line))
		}
	}
	return locks
}

// HasLock reports whether a client, given its process ID, has a POSIX lock at a brick.
func (c *Cluster) HasLock(brick, client int) bool {
	c.t.Helper()
	for _, l := range c.Locks(brick) {
		if strings.Contains(l, "(ACTIVE)") && strings.Contains(l, fmt.Sprintf("-PID:%d-", client)) {
			return true
		}
	}
	return false
}
