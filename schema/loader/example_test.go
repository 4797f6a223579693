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
  - {node: kube1, path: /srv/fast}
  options: {performance.quick-read: off}
`
	result, err := loader.Load(context.Background(), loader.Options{Stdin: strings.NewReader(document)}, "-")
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range result.Diagnostics {
		fmt.Printf("%s: %s\n  %s\n  %s\n", d.Position, d.Path, d.Message, d.Allowed)
	}
	fmt.Println("valid:", result.Documents[0].Valid)
	// Output:
	// stdin:9:12: spec.bricks[2].node
	//   node kube1 already has brick 0 of this set: losing the node loses both
	//   a different node for each brick of a set, or allowSameNode: true
	// stdin:9:25: spec.bricks[2].path
	//   path /srv/fast of node kube1 is already used by spec.bricks[0].path
	//   a path that no other brick uses
	// stdin:10:37: spec.options["performance.quick-read"]
	//   unquoted off parses as a boolean
	//   quote it: "off"
	// valid: false
}
