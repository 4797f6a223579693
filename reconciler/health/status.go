package health

import (
	"fmt"
	"slices"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
)

// Fill writes the state of the bricks into the status of their pool.
func Fill(s *v1alpha1.PoolStatus, pool *schema.Pool, bricks []Brick) {
	lastFree := s.FreeBytes
	s.Bricks, s.Backlog, s.SizeBytes, s.FreeBytes = nil, 0, 0, 0
	online, reachable := 0, 0
	for _, b := range bricks {
		s.Bricks = append(s.Bricks, b.BrickStatus)
		if b.Online {
			online++
		}
		if b.AgentReachable {
			reachable++
		}
		s.Backlog += b.Backlog
	}
	if reachable == 0 {
		s.Backlog = -1
	}
	s.BricksOnline = fmt.Sprintf("%d/%d", online, len(bricks))
	setSize := max(1, pool.Spec.SetSize())
	for set := range slices.Chunk(bricks, setSize) {
		if least := leastFree(pool, set); least.AgentReachable {
			s.SizeBytes += int64(least.Size) * int64(pool.Spec.DataBricks())
			s.FreeBytes += int64(least.Free) * int64(pool.Spec.DataBricks())
		}
	}
	s.FreeBytes = damp(lastFree, s.FreeBytes, s.SizeBytes)
	if p, known := provisioned(bricks, setSize); known {
		s.PromisedBytes = &p
	}
}

// provisioned adds up the sizes of all volumes: subdirectory volumes, which every set has, once;
// block volumes of every set. A brick that was offline or is new may lack volumes until it is
// healed, so the brick with the largest sum counts. The total is unknown while no brick of some
// set reports its sum.
func provisioned(bricks []Brick, setSize int) (bytes int64, known bool) {
	var subdirectories, blocks int64
	for set := range slices.Chunk(bricks, setSize) {
		known = false
		largest := int64(0)
		for _, b := range set {
			if b.Online && b.Promised != nil {
				known = true
				subdirectories, largest = max(subdirectories, b.Promised.Folders), max(largest, b.Promised.Blocks)
			}
		}
		if !known {
			return 0, false
		}
		blocks += largest
	}
	return subdirectories + blocks, known
}

// damp keeps the last free space until it is off by 1 % of the size: otherwise the status would
// be written all the time.
func damp(last, now, size int64) int64 {
	if difference := now - last; difference < size/100 && -difference < size/100 {
		return last
	}
	return now
}

// leastFree returns the brick of a set that fills up first. The arbiter brick has no data.
func leastFree(pool *schema.Pool, set []Brick) Brick {
	if pool.Spec.Type == schema.Arbiter {
		set = set[:2]
	}
	var least Brick
	for _, b := range set {
		if b.AgentReachable && (!least.AgentReachable || b.Free < least.Free) {
			least = b
		}
	}
	return least
}
