package agent

import "context"

// PathShare accepts a ShareRequest (POST).
const PathShare = "/v1/share"

// ShareRequest requests that a file shares the content of another one: both use the same
// blocks of the brick's file system until one of them is written (FICLONE,
// ioctl_ficlonerange(2)). Both are paths below the brick: From is a block volume or a
// snapshot, To is an unfinished copy of the same size.
type ShareRequest struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Shared is the outcome on one brick.
type Shared string

// Outcomes.
const (
	ShareDone   Shared = "shared"
	ShareAbsent Shared = "absent" // the source is not on this brick
	ShareApart  Shared = "apart"  // the source is on this brick, but the copy is on another set
	ShareUnlike Shared = "unlike" // heals are pending, so the bricks may differ
	ShareUnable Shared = "unable" // the brick's file system does not support shared blocks
)

// ShareAnswer is the response to a ShareRequest.
type ShareAnswer struct {
	Shared Shared `json:"shared"`
}

// Share makes an agent share the content of a file with another one.
func (c *Client) Share(ctx context.Context, address, audience string, q ShareRequest, keys Keys) (ShareAnswer, error) {
	var a ShareAnswer
	return a, c.post(ctx, address, PathShare, audience, q, keys, &a)
}
