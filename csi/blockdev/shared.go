package blockdev

import (
	"errors"
	"time"
)

// knownFor is how long it is known that a shared volume was not lost, once enough bricks
// have answered for it. Who takes over a volume of one node finds out: the lock cannot be
// had twice. A shared one can, and would be had again by a node that was cut off between the
// question and the lock. Bricks keep the locks of a node that falls silent for 8 s (the
// server's keepalive and tcp-user-timeout); this is well below that.
const knownFor = 6 * time.Second

var errUnknown = errors.New("it took too long to lock it on the bricks again, which may have taken the node for dead meanwhile")

// known tells whether a volume that answered when it was asked, and has been locked again
// since, can not have been lost in between.
func (o *attachment) known(asked time.Time) error {
	if o.taken.Volume.Shared && time.Since(asked) > knownFor {
		return errUnknown
	}
	return nil
}
