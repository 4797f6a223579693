package agent

import "context"

// PathShare is where an agent takes a ShareRequest (POST).
const PathShare = "/v1/share"

// ShareRequest asks for a file to have the content of another one, without copying it: both
// use the same blocks of the brick's file system until one of them is written (FICLONE,
// ioctl_ficlonerange(2)). Both are paths below the brick: From is a volume of blocks or a
// snapshot, To is a copy that is being made of it, and is as large.
type ShareRequest struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Shared is what became of it on one brick.
type Shared string

// The outcomes.
const (
	ShareDone   Shared = "shared"
	ShareAbsent Shared = "absent" // the source is not on this brick
	ShareApart  Shared = "apart"  // the source is here, and the copy is not: it is on another set
	ShareUnlike Shared = "unlike" // the brick holds something against others: the bricks are not alike now
	ShareUnable Shared = "unable" // the brick's file system has no shared blocks
)

// ShareAnswer is the answer.
type ShareAnswer struct {
	Shared Shared `json:"shared"`
}

// Share has an agent share the content of a file with another one.
func (c *Client) Share(ctx context.Context, address, audience string, q ShareRequest, keys Keys) (ShareAnswer, error) {
	var a ShareAnswer
	return a, c.post(ctx, "http://"+address+PathShare, audience, q, keys, &a)
}
