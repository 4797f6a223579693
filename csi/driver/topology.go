package driver

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/schema"
)

// Every node on which the driver runs reaches every pool, so there is one topology
// with one place: where the driver runs. It keeps pods with a volume from nodes that
// have no node plugin, such as those that a DaemonSet's selector leaves out.
const (
	topologyKey   = schema.DriverName + "/driver"
	topologyValue = "present"
)

// everywhere is that place.
func everywhere() *csi.Topology {
	return &csi.Topology{Segments: map[string]string{topologyKey: topologyValue}}
}

// reachable holds that a volume may be where the driver is.
func reachable(r *csi.TopologyRequirement) error {
	if len(r.GetRequisite()) == 0 {
		return nil
	}
	for _, t := range r.GetRequisite() {
		if value, told := t.GetSegments()[topologyKey]; !told || value == topologyValue {
			return nil
		}
	}
	return fmt.Errorf("%w: the volume is to be where the driver does not run: %v", backend.ErrExhausted, r.GetRequisite())
}
