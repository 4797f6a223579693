package controller

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/atoll-storage/atoll/csi/pool"
)

// candidates opens the pools that a request allows, most free space first, then by name, and
// returns what is wrong with those that cannot be used.
func (s *Server) candidates(ctx context.Context, r volumeRequest) (pools []*pool.Handle, problems error) {
	names, err := r.poolNames(s.pools.Catalog)
	if err != nil {
		return nil, err
	}
	free := map[string]int64{}
	for _, name := range names {
		p, err := s.pools.Catalog.Pool(name)
		if err != nil {
			if len(r.Pools) > 0 { // a selector skips broken pools
				problems = errors.Join(problems, err)
			}
			continue
		}
		if !r.Match(p) {
			continue
		}
		if err := r.checkPool(p); err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		h, err := s.pools.OpenPool(ctx, p, r.LayoutIn(p))
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		pools = append(pools, h)
		if len(names) == 1 {
			break // there is no choice
		}
		if free[name], err = s.ledgers.Free(ctx, h, r.Overcommit); err != nil {
			problems = errors.Join(problems, err)
		}
	}
	slices.SortStableFunc(pools, func(a, b *pool.Handle) int {
		return cmp.Or(cmp.Compare(free[b.Name()], free[a.Name()]), cmp.Compare(a.Name(), b.Name()))
	})
	return pools, problems
}
