package copies

import (
	"errors"
	"testing"

	"github.com/atoll-storage/atoll/internal/agent"
)

// TestTogether: content is shared when all bricks of the one set that has it say so, whatever
// becomes of other sets.
func TestTogether(t *testing.T) {
	away := errors.New("away")
	const absent, done, apart, unlike, unable = agent.ShareAbsent, agent.ShareDone, agent.ShareApart, agent.ShareUnlike, agent.ShareUnable
	for name, test := range map[string]struct {
		set     int
		answers []agent.Shared
		errs    map[int]error
		want    agent.Shared
		fails   bool
	}{
		"all":                      {3, []agent.Shared{done, done, done}, nil, done, false},
		"one differs":              {3, []agent.Shared{done, unlike, done}, nil, unlike, false},
		"one cannot":               {3, []agent.Shared{done, unable, unlike}, nil, unable, false},
		"one has nothing":          {3, []agent.Shared{done, done, absent}, nil, absent, false},
		"one has no copy":          {3, []agent.Shared{done, apart, done}, nil, apart, false},
		"one is away":              {3, []agent.Shared{done, done, ""}, map[int]error{2: away}, "", true},
		"second set":               {1, []agent.Shared{absent, done}, nil, done, false},
		"another set":              {1, []agent.Shared{absent, apart, absent}, nil, apart, false},
		"a brick elsewhere away":   {2, []agent.Shared{done, done, "", absent}, map[int]error{2: away}, done, false},
		"nobody has it, one away":  {2, []agent.Shared{absent, absent, "", absent}, map[int]error{2: away}, absent, true},
		"nobody has it":            {2, []agent.Shared{absent, absent}, nil, absent, false},
		"the set is away entirely": {1, []agent.Shared{""}, map[int]error{0: away}, absent, true},
	} {
		errs := make([]error, len(test.answers))
		for i, err := range test.errs {
			errs[i] = err
		}
		if got, err := together(test.answers, errs, test.set); got != test.want || (err != nil) != test.fails {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
