package gluster

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestPing tells a brick from what only listens, and from a brick that is away.
func TestPing(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	g := bricks.StartGlusterd(t, "127.1.1.8")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	brick := fmt.Sprintf("127.0.0.1:%d", c.Pool.Bricks[0].Port)
	c.Eventually(10*time.Second, "the brick answers", func() bool { return gluster.Ping(ctx, brick) == nil })
	if err := gluster.Ping(ctx, "127.1.1.8:24007"); err == nil {
		t.Error("glusterd is taken for a brick")
	}
	_ = g
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := gluster.Ping(short, l.Addr().String()); err == nil {
		t.Error("what only listens is taken for a brick")
	}
	bricks.Stop(c.Bricks[0])
	if err := gluster.Ping(ctx, brick); err == nil {
		t.Error("a brick that was killed answers")
	}
}
