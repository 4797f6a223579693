package gluster

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestPing checks that a brick is told from another server and from a stopped brick.
func TestPing(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	bricks.StartGlusterd(t, "127.1.1.8")
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	brick := fmt.Sprintf("127.0.0.1:%d", c.Pool.Bricks[0].Port)
	c.Eventually("the brick answers", func() bool { return gluster.Ping(ctx, brick) == nil })
	if err := gluster.Ping(ctx, "127.1.1.8:24007"); err == nil {
		t.Error("glusterd was taken for a brick")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := gluster.Ping(short, l.Addr().String()); err == nil {
		t.Error("a server that only listens was taken for a brick")
	}
	bricks.Stop(c.Bricks[0])
	if err := gluster.Ping(ctx, brick); err == nil {
		t.Error("a killed brick answered")
	}
}
