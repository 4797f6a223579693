// Package quota has the bricks of a pool enforce the sizes of volumes.
package quota

import (
	"context"

	"github.com/atoll-storage/atoll/csi/catalog"
)

// Mode is how the size of a volume is enforced. It is part of the volume context, and so of the
// PersistentVolume.
type Mode string

// The modes.
const (
	ModeEnforced Mode = "enforced" // writes beyond it get ENOSPC
	ModeAdvisory Mode = "advisory" // space is provisioned, and writes beyond it succeed
	// ModeEachSet is that of a distributed pool: each of its sets enforces the size, so a
	// volume can have as many times its size as there are sets.
	ModeEachSet Mode = "enforced-per-set"
)

// ContextKey is the key of the mode in a volume context.
const ContextKey = "quota"

// Limiter enforces the size of a volume on every brick of its pool.
type Limiter interface {
	// Limit limits a volume's directory, a path below the pool's root, to this many bytes, at
	// once and permanently. It can be repeated, and be interrupted at any point: no volume is
	// used before Limit succeeded.
	Limit(ctx context.Context, p catalog.Pool, folder string, bytes int64) (Mode, error)
}

// Advisory is the Limiter of pools whose bricks the driver cannot reach, such as External ones.
type Advisory struct{}

// Limit does nothing, and returns ModeAdvisory.
func (Advisory) Limit(context.Context, catalog.Pool, string, int64) (Mode, error) {
	return ModeAdvisory, nil
}
