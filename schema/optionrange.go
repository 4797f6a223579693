package schema

// OptionRange is the range of a volume option's number.
type OptionRange struct {
	Min, Max int64
	Unit     string // "s", "bytes", or "" for a count
}

// OptionRanges are what GlusterFS 10.3 accepts; a daemon with another value does not start.
// Source: the answers of 'gluster volume set' to numbers that are too large or too small
// (tests/gluster asks it). Options that are not here have no other values than pool.cue allows.
var OptionRanges = map[string]OptionRange{
	"cluster.shd-max-threads":              {1, 64, ""},
	"network.ping-timeout":                 {0, 1013, "s"},
	"performance.cache-size":               {0, 32 << 30, "bytes"},
	"performance.io-thread-count":          {1, 64, ""},
	"performance.md-cache-timeout":         {0, 600, "s"},
	"performance.write-behind-window-size": {512 << 10, 1 << 30, "bytes"},
	"server.outstanding-rpc-limit":         {0, 65536, ""},
}

const (
	// MinPingTimeout is the lowest network.ping-timeout that a pool may set, in seconds. Below it,
	// a client takes a brick that is only busy for dead, and 0 turns the check off.
	MinPingTimeout = 5
	// MinIOCache is the lowest performance.cache-size of performance/io-cache, in bytes
	// (io-cache.c of GlusterFS 10.3: the client does not start with less).
	MinIOCache = 4 << 20
	// LargeCache is a performance.cache-size that few nodes can spare for each client, in bytes.
	LargeCache = 1 << 30
)

// Limits of clients' connections to nodes, in seconds (ADR 28).
const (
	// NodeTimeout is how long a node may acknowledge nothing that was sent to it.
	NodeTimeout = 10
	// KeepaliveTime is how long a connection is idle before the node is asked whether it is there.
	KeepaliveTime = 5
	// KeepaliveInterval is how often it is then asked.
	KeepaliveInterval = 1
)
