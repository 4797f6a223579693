// Package csi runs the driver's processes on real bricks and kills them under writers.
package csi

import (
	"os"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

// stallLimit is longer than a write takes on a busy machine, and shorter than a write that waits
// for a brick that does not answer: network.ping-timeout is 42 s.
const stallLimit = 30 * time.Second

func TestMain(m *testing.M) {
	sandbox.Parallel(4)
	os.Exit(sandbox.Run(m))
}
