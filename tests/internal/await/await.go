// Package await has tests wait for conditions instead of for a time: how long something takes
// says more about what else the machine does than about what is tested.
package await

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Limit ends a test whose condition never becomes true. It is no promise of the product: what
// takes seconds on an idle machine may take a minute beside other work.
const Limit = 5 * time.Minute

// interval is how often a condition is checked.
const interval = 50 * time.Millisecond

// True waits until a condition holds. After Limit it fails the test, with what each explain
// returns.
func True(t testing.TB, what string, holds func() bool, explain ...func() string) {
	t.Helper()
	for end := time.Now().Add(Limit); !holds(); time.Sleep(interval) {
		if time.Now().After(end) {
			for _, e := range explain {
				t.Log(e())
			}
			t.Fatalf("waited %s in vain until %s", Limit, what)
		}
	}
}

// Call repeats a call of the driver as kubelet and sidecars do, until it succeeds or is refused
// for good. It returns the last error when the context ends.
func Call(ctx context.Context, call func(context.Context) error) error {
	for {
		err := call(ctx)
		switch status.Code(err) {
		case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded:
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(interval):
		}
	}
}
