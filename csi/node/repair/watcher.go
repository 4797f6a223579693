// Package repair watches the volumes of a node: it mounts a volume again whose client has died,
// and shuts down the file system of a block volume that the node has lost. What is mounted
// where, it reads from the kernel, and which volume that is, from the kubelet's own files.
package repair

import (
	"context"
	"time"
)

// watchEvery is how often the node's mounts are checked.
const watchEvery = 5 * time.Second

// Watch checks the node's mounts until the context ends.
func Watch(ctx context.Context, c Config) {
	dead, lost := &remounter{Config: c}, &losses{Config: c}
	for {
		dead.notices.flush(ctx)
		lost.notices.flush(ctx)
		dead.repairAll(ctx)
		lost.shutDownAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
	}
}
