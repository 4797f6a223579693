package schema

import _ "embed"

//go:generate go run ./generate

// PoolCUE is the published file pool.cue, the only definition of a pool.
//
//go:embed pool.cue
var PoolCUE string

// KadaluCUE is the published file kadalu.cue, which defines KadaluStorage documents.
//
//go:embed kadalu.cue
var KadaluCUE string
