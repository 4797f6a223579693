package loader_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/atoll-storage/atoll/schema/loader"
)

// Load a document from a reader and print what is wrong with it.
func ExampleLoad() {
	document := `apiVersion: atoll.storage/v1alpha1
kind: StoragePool
metadata: {name: fast}
spec:
  type: Replica3
  bricks:
  - {node: kube1, path: /srv/fast}
  - {node: kube2, path: /srv/fast}
  - {node: kube1, device: sdb}
  options: {performance.quick-read: off}
`
	result, err := loader.Load(context.Background(), loader.Options{Stdin: strings.NewReader(document)}, "-")
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range result.Diagnostics {
		fmt.Println(d)
	}
	fmt.Println("valid:", result.Documents[0].Valid)
	// Output:
	// stdin:9:12: spec.bricks[2].node: node kube1 already has brick 0 of this set: losing the node loses both; a different node for each brick of a set, or allowSameNode: true
	// stdin:9:27: spec.bricks[2].device: "sdb" is not allowed; a device such as /dev/disk/by-id/wwn-0x5000c500a0b1c2d3, or a disk image file
	// stdin:10:37: spec.options["performance.quick-read"]: unquoted off parses as a boolean; quote it: "off"
	// valid: false
}
