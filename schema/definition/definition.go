// Package definition compiles the pool definition of schema/pool.cue and writes what
// is published from it: the CRDs, the JSON schema and the list of Gluster options.
package definition

import (
	"sync"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/shape"
)

// Pool returns the definition of a pool, compiled once from schema.PoolCUE. It panics
// if that does not compile, which a test rules out.
var Pool = sync.OnceValue(func() *shape.Definition {
	d, err := shape.Compile(schema.PoolCUE, "#StoragePool", "spec.type")
	if err != nil {
		panic("compile embedded pool.cue: " + err.Error())
	}
	return d
})

// JSONSchema returns the definition for editors, as JSON schema draft-07.
func JSONSchema() ([]byte, error) {
	return Pool().JSONSchema("https://atoll.storage/schema/v1alpha1/storagepool.json", "StoragePool")
}
