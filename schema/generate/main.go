// Command generate writes the files derived from pool.cue: the CRDs, the JSON schema for
// editors and the reference. 'make generate' runs it.
package main

import (
	"fmt"
	"os"

	"github.com/atoll-storage/atoll/schema/definition"
)

func main() {
	files, err := generate()
	if err == nil {
		for name, text := range files {
			if err = os.WriteFile(name, text, 0o644); err != nil { //nolint:gosec // published files
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate: "+err.Error())
		os.Exit(1)
	}
}

// generate returns the files by their paths relative to the directory schema.
func generate() (map[string][]byte, error) {
	editors, err := definition.JSONSchema()
	if err != nil {
		return nil, err
	}
	kadalu, err := definition.KadaluCRD()
	if err != nil {
		return nil, err
	}
	crd, err := definition.CRD()
	if err != nil {
		return nil, err
	}
	reference := definition.Pool().Reference("StoragePool reference") + footer
	return map[string][]byte{
		"../kustomize/base/crds/storagepools.yaml":           crd,
		"../kustomize/components/kadalu/kadalustorages.yaml": kadalu,
		"storagepool.schema.json":                            editors,
		"../docs/storagepool.md":                             []byte(reference),
	}, nil
}

const footer = "Generated from [pool.cue](../schema/pool.cue) by `make generate`. " +
	"[checks.md](checks.md) lists checks beyond single fields.\n"
