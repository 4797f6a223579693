package gluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestBricksAdmit asks real bricks whom they let in: clients that know of all copies.
func TestBricksAdmit(t *testing.T) {
	c := bricks.Start(t, schema.Replica2, 2, nil)
	at := c.Pool.Bricks[0]
	address := fmt.Sprintf("127.0.0.1:%d", at.Port)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c.Eventually(10*time.Second, "the brick answers", func() bool { return gluster.Ping(ctx, address) == nil })
	for user, want := range map[string]bool{"copies-1": false, "copies-2": true, "copies-3": true, "somebody": false} {
		if in, err := gluster.Admits(ctx, address, at.Directory, user); err != nil || in != want {
			t.Errorf("%s: %t %v, want %t", user, in, err, want)
		}
	}
	if in, err := gluster.Admits(ctx, address, "/another", "copies-2"); err == nil {
		t.Errorf("a folder that is not served: %t", in)
	}
	bricks.Stop(c.Bricks[0])
	if in, err := gluster.Admits(ctx, address, at.Directory, "copies-1"); err == nil {
		t.Errorf("a brick that is away: %t", in)
	}
}
