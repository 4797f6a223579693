package agent

import "time"

// Where an agent tells its Status (GET) and its Leftover (GET), and takes a HealRequest
// and a LayoutRequest (POST).
const (
	PathStatus   = "/v1/status"
	PathLeftover = "/v1/leftover"
	PathHeal     = "/v1/heal"
	PathLayout   = "/v1/layout"
)

// Status is how a brick is.
type Status struct {
	Pool  string `json:"pool"`
	Brick string `json:"brick"`
	// Online tells whether the brick answers as GlusterFS does.
	Online bool `json:"online"`
	// Fresh tells that the brick was made empty and may lack what its set has.
	Fresh bool `json:"fresh"`
	// Joining tells that it was, and has not served anybody since; "" that it has. It is
	// another value for each brick that is made.
	Joining string `json:"joining,omitempty"`
	// Founders are the values of Joining of the bricks that were the first of the set,
	// together with this one.
	Founders []string `json:"founders,omitempty"`
	// Lacking are those of other bricks of which this one has noted that they lack what it
	// has, from the root on.
	Lacking []string `json:"lacking,omitempty"`
	// Backlog counts what others are to be healed from this brick.
	Backlog int `json:"backlog"`
	// Calm is for how many seconds the agent has found nothing to be healed from this brick,
	// 0 while there is something; nil when it is not known.
	Calm *int64 `json:"calmSeconds,omitempty"`
	// SplitBrain counts entries that nobody can read: this brick and another hold each
	// other to be wrong about them.
	SplitBrain int `json:"splitBrain"`
	// Peers are the other bricks of its set, by the name of their host: whether this
	// one reaches them.
	Peers map[string]bool `json:"peers,omitempty"`
	// Layout is how the pool's files were spread when that was last completed, "" when it
	// never was.
	Layout string `json:"layout,omitempty"`
	// Spread is the value of volume.SpreadAttribute on the brick, "" when it has none.
	Spread string `json:"spread,omitempty"`
	// Empty tells that no volume, and no file, is on the brick.
	Empty bool `json:"empty"`
	// Enforced tells whether volumes are held to their sizes.
	Enforced bool   `json:"enforced"`
	Size     uint64 `json:"sizeBytes"`
	Free     uint64 `json:"freeBytes"`
	// Promised is absent until the records on the brick have been read.
	Promised *Promised `json:"promised,omitempty"`
}

// Promised is the sum of the sizes in the records on a brick, in bytes.
type Promised struct {
	// Folders are on all sets of a pool, each with its whole size.
	Folders int64 `json:"foldersBytes"`
	// Blocks are files, each on one set.
	Blocks int64 `json:"blocksBytes"`
}

// HealRequest asks for a heal: of what the brick's index lists, or of everything.
type HealRequest struct {
	Full bool `json:"full"`
}

// LeftoverLimit is how long counting the files of a brick may take.
const LeftoverLimit = 30 * time.Minute

// Leftover counts the files that a brick still has: none when its set was drained.
type Leftover struct {
	Files int `json:"files"`
}

// LayoutRequest tells a brick that the files of its pool are spread so.
type LayoutRequest struct {
	Layout string `json:"layout"`
}
