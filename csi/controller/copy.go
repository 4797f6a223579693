package controller

import (
	"context"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/copies"
	"github.com/atoll-storage/atoll/schema"
)

// copyRequest is a copy to be created, and the space that is provisioned for it.
type copyRequest struct {
	key        string // of the volume or snapshot that it becomes
	ledgerKey  string
	size       int64 // bytes
	overcommit float64
	pause      time.Duration // how long writes to the source may be paused; 0 is the default
	open       func(backend.Block) (*backend.Source, error)
	// finish makes the complete copy a volume or a snapshot, and returns the space that it
	// takes, in bytes.
	finish func(c *backend.Copy, s *backend.Source, at time.Time) (provisioned int64, err error)
}

// copy reserves space for a copy and creates it, even if the call ends first.
func (s *Server) copy(ctx context.Context, p catalog.Pool, r copyRequest) error {
	return s.jobs.do(ctx, r.key, func(ctx context.Context, j *job) error {
		h, err := s.pools.OpenPool(ctx, p, schema.Block) // the call closes its handle at its end
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := s.ledgers.Of(ctx, h)
		if err != nil {
			return err
		}
		space, err := h.Space()
		if err != nil {
			return err
		}
		undo, err := l.Reserve(r.ledgerKey, r.size, space, r.overcommit)
		if err != nil {
			return err
		}
		request := copies.Request{
			Pool: h.Pool, Blocks: h.Blocks(), Key: r.key, Pause: r.pause, OnProgress: j.setProgress,
			Open: func() (*backend.Source, error) { return r.open(h.Blocks()) },
		}
		err = s.config.Copies.Copy(ctx, request, func(c *backend.Copy, source *backend.Source, at time.Time) error {
			provisioned, err := r.finish(c, source, at)
			if err == nil {
				l.Set(r.ledgerKey, provisioned)
			}
			return err
		})
		if err != nil {
			undo()
			s.log.Info("copy failed", "pool", h.Name(), "copy", r.key, "error", err.Error())
		}
		return err
	})
}
