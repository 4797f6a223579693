// Package quota is how the driver has volumes held to their sizes.
package quota

import (
	"context"

	"github.com/atoll-storage/atoll/csi/catalog"
)

// Mode says what a volume's size is worth. It stands in the volume's context, and so
// on its PersistentVolume.
type Mode string

// The modes.
const (
	ModeEnforced Mode = "enforced" // what writes beyond it gets ENOSPC
	ModeAdvisory Mode = "advisory" // it is promised, and nobody is stopped
)

// ContextKey is the mode's key in a volume's context.
const ContextKey = "quota"

// Limiter holds a volume to its size on every brick of its pool.
type Limiter interface {
	// Limit bounds a volume's folder, a path below the pool's root, to this many
	// bytes, at once and for good. It may be repeated, and be cut off anywhere: a
	// volume is not handed out before it has answered.
	Limit(ctx context.Context, p catalog.Pool, folder string, bytes int64) (Mode, error)
}

// Advisory is the Limiter of pools whose bricks nobody can reach, such as External
// ones.
type Advisory struct{}

// Limit does nothing and says so.
func (Advisory) Limit(context.Context, catalog.Pool, string, int64) (Mode, error) {
	return ModeAdvisory, nil
}
