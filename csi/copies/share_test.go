package copies

import (
	"errors"
	"testing"

	"github.com/atoll-storage/atoll/internal/agent"
)

// TestCombine: content is shared when all bricks of the one set that has it report so, whatever
// happens on other sets.
func TestCombine(t *testing.T) {
	down := errors.New("down")
	const absent, done, apart = agent.ShareAbsent, agent.ShareDone, agent.ShareApart
	const unlike, unable = agent.ShareUnlike, agent.ShareUnable
	for name, test := range map[string]struct {
		set     int
		answers []agent.Shared
		errs    map[int]error
		want    agent.Shared
		fails   bool
	}{
		"all bricks share":     {3, []agent.Shared{done, done, done}, nil, done, false},
		"pending heals on one": {3, []agent.Shared{done, unlike, done}, nil, unlike, false},
		"not supported by one": {3, []agent.Shared{done, unable, unlike}, nil, unable, false},
		"no source on one":     {3, []agent.Shared{done, done, absent}, nil, absent, false},
		"no copy on one":       {3, []agent.Shared{done, apart, done}, nil, apart, false},
		"one down":             {3, []agent.Shared{done, done, ""}, map[int]error{2: down}, "", true},
		"second set":           {1, []agent.Shared{absent, done}, nil, done, false},
		"copy on another set":  {1, []agent.Shared{absent, apart, absent}, nil, apart, false},
		"brick of another set down": {
			2,
			[]agent.Shared{done, done, "", absent},
			map[int]error{2: down},
			done,
			false,
		},
		"no source, one down":            {2, []agent.Shared{absent, absent, ""}, map[int]error{2: down}, absent, true},
		"no source":                      {2, []agent.Shared{absent, absent}, nil, absent, false},
		"all bricks of the set are down": {1, []agent.Shared{""}, map[int]error{0: down}, absent, true},
	} {
		errs := make([]error, len(test.answers))
		for i, err := range test.errs {
			errs[i] = err
		}
		if got, err := combine(test.answers, errs, test.set); got != test.want || (err != nil) != test.fails {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
