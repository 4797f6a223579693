package agent

import (
	"time"

	"github.com/atoll-storage/atoll/internal/ondisk"
)

// PathStatus returns Status and PathLeftover returns Leftover (GET); PathHeal accepts a
// HealRequest and PathLayout a LayoutRequest (POST).
const (
	PathStatus   = "/v1/status"
	PathLeftover = "/v1/leftover"
	PathHeal     = "/v1/heal"
	PathLayout   = "/v1/layout"
)

// Status is the state of a brick.
type Status struct {
	Pool  string `json:"pool"`
	Brick string `json:"brick"`
	// Online says that the brick answers a GlusterFS handshake.
	Online bool `json:"online"`
	// Fresh says that the brick was created empty and may still lack data of its set.
	Fresh bool `json:"fresh"`
	// Joining is the random ID of a brick that was created empty and has not served clients
	// yet; "" for all others.
	Joining string `json:"joining,omitempty"`
	// Founders are the IDs of the bricks with which this one founded its set.
	Founders []string `json:"founders,omitempty"`
	// Lacking are the IDs of the bricks for which this one has marked everything as pending.
	Lacking []string `json:"lacking,omitempty"`
	// Incarnation is the brick's own, Members are the newest that it has seen in its set.
	// Both are empty for agents of versions before they existed.
	Incarnation ondisk.Incarnation `json:"incarnation"`
	Members     ondisk.Members     `json:"members,omitempty"`
	// Replaced says why the brick must not serve: its set knows a newer one. "" if it may serve.
	Replaced string `json:"replaced,omitempty"`
	// Former are bricks of the set that were replaced, and for which it is not certain yet that
	// they no longer serve clients.
	Former []ondisk.Place `json:"former,omitempty"`
	// Address is the IP address from which the agent answered. Client sets it.
	Address string `json:"-"`
	// Backlog counts the entries from which other bricks must be healed.
	Backlog int `json:"backlog"`
	// Blames are the positions of bricks that are known to lack something which this one has.
	// Some may be missing while many heals are pending.
	Blames []string `json:"blames,omitempty"`
	// Calm is for how many seconds the backlog was empty, 0 while it is not; nil if that is
	// unknown.
	Calm *int64 `json:"calmSeconds,omitempty"`
	// SplitBrain counts the entries for which this brick and another blame each other.
	SplitBrain int `json:"splitBrain"`
	// Peers maps the hosts of the set's other bricks to whether this one reaches them.
	Peers map[string]bool `json:"peers,omitempty"`
	// Layout is the layout of the last completed rebalance, "" if there was none, "moving" while
	// files are being moved to another layout.
	Layout string `json:"layout,omitempty"`
	// Spread is the value of ondisk.SpreadAttribute on the brick, "" if it has none.
	Spread string `json:"spread,omitempty"`
	// Empty says that the brick has neither volumes nor files.
	Empty bool `json:"empty"`
	// Enforced says that the sizes of volumes are enforced.
	Enforced bool   `json:"enforced"`
	Size     uint64 `json:"sizeBytes"`
	Free     uint64 `json:"freeBytes"`
	// Promised is nil until the records on the brick have been read.
	Promised *Promised `json:"promised,omitempty"`
	// Crashes are those of the pod's daemons that have crashed within CrashesFor.
	Crashes []Crashes `json:"crashes,omitempty"`
}

// CrashesFor is for how long after its last crash the status tells of a daemon's crashes.
const CrashesFor = time.Hour

// Crashes are those of a daemon since its pod was created.
type Crashes struct {
	Daemon string `json:"daemon"` // glusterfsd or self-heal
	Count  int    `json:"count"`
	// Last is when the last one was, by the clock of the brick's node.
	Last time.Time `json:"last"`
	// Reason is the signal that ended the daemon, such as "segmentation fault".
	Reason string `json:"reason"`
}

// Promised is the sum of the sizes in the records on a brick, in bytes.
type Promised struct {
	// Folders is the sum of subdirectory volumes: they are on all sets of a pool, each with
	// its whole size.
	Folders int64 `json:"foldersBytes"`
	// Blocks is the sum of block volumes and snapshots: each is a file on one set.
	Blocks int64 `json:"blocksBytes"`
}

// HealRequest requests a heal: of the brick's index, or of everything.
type HealRequest struct {
	Full bool `json:"full"`
}

// LeftoverLimit is how long counting the files of a brick may take.
const LeftoverLimit = 30 * time.Minute

// Leftover is the number of files on a brick: 0 once its set is drained.
type Leftover struct {
	Files int `json:"files"`
}

// LayoutRequest requests that a brick records the layout of its pool's files.
type LayoutRequest struct {
	Layout string `json:"layout"`
}
