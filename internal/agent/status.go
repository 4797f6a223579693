package agent

// PathStatus is where an agent tells its Status (GET), PathHeal where it takes a
// HealRequest (POST).
const (
	PathStatus = "/v1/status"
	PathHeal   = "/v1/heal"
)

// Status is how a brick is.
type Status struct {
	Pool  string `json:"pool"`
	Brick string `json:"brick"`
	// Online tells whether the brick answers as GlusterFS does.
	Online bool `json:"online"`
	// Fresh tells that the brick was made empty and may lack what its set has.
	Fresh bool `json:"fresh"`
	// Backlog counts what others are to be healed from this brick.
	Backlog int `json:"backlog"`
	// Peers are the other bricks of its set, by the name of their host: whether this
	// one reaches them.
	Peers map[string]bool `json:"peers,omitempty"`
	// Enforced tells whether volumes are held to their sizes.
	Enforced bool   `json:"enforced"`
	Size     uint64 `json:"sizeBytes"`
	Free     uint64 `json:"freeBytes"`
}

// HealRequest asks for a heal: of what the brick's index lists, or of everything.
type HealRequest struct {
	Full bool `json:"full"`
}
