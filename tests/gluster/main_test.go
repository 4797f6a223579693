// Package gluster runs what talks to GlusterFS against real glusterfsd bricks, mounts, self-heal
// daemons and glusterd, and takes bricks away.
package gluster

import (
	"os"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

// stallLimit is longer than a call takes on a busy machine, and shorter than a call that waits
// for a brick that does not answer: network.ping-timeout is 42 s.
const stallLimit = 30 * time.Second

func TestMain(m *testing.M) {
	sandbox.Parallel(4)
	os.Exit(sandbox.Run(m))
}

// sometimes returns a function that calls another one at most every two seconds.
func sometimes(do func()) func() {
	var last time.Time
	return func() {
		if time.Since(last) > 2*time.Second {
			do()
			last = time.Now()
		}
	}
}
