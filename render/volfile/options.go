package volfile

import "slices"

// graph is a set of the graphs that an option affects.
type graph int

const (
	brickGraph graph = 1 << iota
	clientGraph
	blockGraph
	healGraph
	rebalanceGraph

	mounts = clientGraph | blockGraph
	all    = mounts | healGraph | rebalanceGraph
)

// mapping is where glusterd 10 writes a volume option: the type of the xlator and the name of
// its option. An empty option switches the whole xlator on or off.
type mapping struct {
	name, xlator, option string
	graphs               graph
}

// optionTable has every option of #Options in pool.cue. Source: the volfiles that glusterd
// 10.3 writes for them; tests/gluster compares the table with glusterd.
var optionTable = []mapping{
	{"cluster.favorite-child-policy", "cluster/replicate", "favorite-child-policy", all},
	{"cluster.heal-timeout", "cluster/replicate", "heal-timeout", healGraph},
	{"cluster.heal-timeout", "cluster/disperse", "heal-timeout", healGraph},
	{"cluster.lookup-optimize", "cluster/distribute", "lookup-optimize", mounts},
	{"cluster.min-free-disk", "cluster/distribute", "min-free-disk", mounts},
	{"cluster.quorum-type", "cluster/replicate", "quorum-type", all},
	{"cluster.readdir-optimize", "cluster/distribute", "readdir-optimize", mounts},
	{"cluster.shd-max-threads", "cluster/replicate", "shd-max-threads", all},
	{"cluster.shd-max-threads", "cluster/disperse", "shd-max-threads", healGraph},
	{"diagnostics.brick-log-level", "debug/io-stats", "log-level", brickGraph},
	{"diagnostics.client-log-level", "debug/io-stats", "log-level", all},
	{"network.ping-timeout", "protocol/client", "ping-timeout", all},
	{"performance.cache-size", "performance/io-cache", "cache-size", clientGraph},
	{"performance.cache-size", "performance/quick-read", "cache-size", clientGraph},
	{"performance.client-io-threads", "performance/io-threads", "", clientGraph},
	{"performance.flush-behind", "performance/write-behind", "flush-behind", mounts},
	{"performance.io-cache", "performance/io-cache", "", clientGraph},
	{"performance.io-thread-count", "performance/io-threads", "thread-count", brickGraph | clientGraph},
	{"performance.md-cache-timeout", "performance/md-cache", "md-cache-timeout", clientGraph},
	{"performance.nl-cache", "performance/nl-cache", "", clientGraph},
	{"performance.open-behind", "performance/open-behind", "", mounts},
	{"performance.quick-read", "performance/quick-read", "", clientGraph},
	{"performance.read-ahead", "performance/read-ahead", "", clientGraph},
	{"performance.readdir-ahead", "performance/readdir-ahead", "", clientGraph},
	{"performance.stat-prefetch", "performance/md-cache", "", clientGraph},
	{"performance.strict-o-direct", "performance/write-behind", "strict-O_DIRECT", mounts},
	{"performance.write-behind", "performance/write-behind", "", mounts},
	{"performance.write-behind-window-size", "performance/write-behind", "cache-size", mounts},
	{"server.outstanding-rpc-limit", "protocol/server", "rpc.outstanding-rpc-limit", brickGraph},
	{"storage.health-check-interval", "storage/posix", "health-check-interval", brickGraph},
	{"storage.reserve", "storage/posix", "reserve", brickGraph},
}

// OptionNames returns the names of the options in the table, sorted.
func OptionNames() []string {
	var names []string
	for _, m := range optionTable {
		names = append(names, m.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
