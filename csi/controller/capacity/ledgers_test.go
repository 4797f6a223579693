package capacity

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestReadingOutlivesTheCall: reading the records of a large pool takes longer than a sidecar
// waits, and must not start again with every call.
func TestReadingOutlivesTheCall(t *testing.T) {
	b := testbed.New(t, entry.Entry{Pool: "p"})
	b.Mounts.Hold = make(chan struct{})
	h := b.Open("p", schema.Subdirectory)
	l := &Ledgers{Pools: b.Pools, Log: b.Log}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Of(short, h); !errors.Is(err, rpc.ErrReading) {
		t.Errorf("while the records are read: %v", err)
	}
	close(b.Mounts.Hold)
	if _, err := l.Of(t.Context(), h); err != nil {
		t.Error(err)
	}
	if n := strings.Count(b.Logged(), "read the records"); n != 1 {
		t.Errorf("read %d times", n)
	}
}
