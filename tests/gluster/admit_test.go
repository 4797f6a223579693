package gluster

import (
	"context"
	"fmt"
	"testing"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestBricksAdmit checks that bricks accept only clients whose graph has all copies.
func TestBricksAdmit(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica2, 2, nil)
	at := c.Pool.Bricks[0]
	address := fmt.Sprintf("127.0.0.1:%d", at.Port)
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	c.Eventually("the brick answers", func() bool { return gluster.Ping(ctx, address) == nil })
	for user, want := range map[string]bool{"copies-1": false, "copies-2": true, "copies-3": true, "somebody": false} {
		if in, err := gluster.Admits(ctx, address, at.Directory, user); err != nil || in != want {
			t.Errorf("%s: admitted %t, want %t; %v", user, in, want, err)
		}
	}
	if in, err := gluster.Admits(ctx, address, "/another", "copies-2"); err == nil {
		t.Errorf("a directory that is not served: admitted %t, no error", in)
	}
	bricks.Stop(c.Bricks[0])
	if in, err := gluster.Admits(ctx, address, at.Directory, "copies-1"); err == nil {
		t.Errorf("a stopped brick: admitted %t, no error", in)
	}
}
