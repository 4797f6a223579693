package schema

import _ "embed"

//go:generate go run ./generate

// PoolCUE is pool.cue, the only definition of a pool, as it is published.
//
//go:embed pool.cue
var PoolCUE string

// KadaluCUE is kadalu.cue, the KadaluStorage documents that convert to pools.
//
//go:embed kadalu.cue
var KadaluCUE string
