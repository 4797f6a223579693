package gluster

import (
	"maps"
	"testing"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
)

// TestClientOptions: what CI lets pass is what the driver takes.
func TestClientOptions(t *testing.T) {
	if !maps.Equal(schema.ClientOptions, gluster.ClientOptions) {
		t.Errorf("schema allows %v, the driver takes %v", schema.ClientOptions, gluster.ClientOptions)
	}
}
