// Package topology is the driver's one topology: every node on which the driver runs reaches
// every pool, so there is one place, "where the driver runs". It keeps pods with a volume
// away from nodes without the node plugin, such as those that a DaemonSet's selector excludes.
package topology

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/schema"
)

const (
	key   = schema.DriverName + "/driver"
	value = "present"
)

// Everywhere is the topology of every node with the driver, and of every volume.
func Everywhere() *csi.Topology {
	return &csi.Topology{Segments: map[string]string{key: value}}
}

// Check returns an error unless a volume may be where the driver runs.
func Check(r *csi.TopologyRequirement) error {
	if len(r.GetRequisite()) == 0 {
		return nil
	}
	for _, t := range r.GetRequisite() {
		if v, ok := t.GetSegments()[key]; !ok || v == value {
			return nil
		}
	}
	return fmt.Errorf("%w: the driver does not run in the required topology %v", backend.ErrExhausted, r.GetRequisite())
}
