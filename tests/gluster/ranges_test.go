package gluster

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestOptionRanges asks glusterd for the range of every option in schema.OptionRanges: it refuses the
// next number on either side, and names the same range.
func TestOptionRanges(t *testing.T) {
	t.Parallel()
	g := bricks.StartGlusterd(t, "127.1.1.9")
	g.Create("r3", 3, "replica", "3")
	for name, r := range schema.OptionRanges {
		if name == "performance.cache-size" {
			continue // glusterd does not check it, the client does
		}
		for _, n := range []int64{r.Min - 1, r.Max + 1} {
			out, err := g.Try("volume", "set", "r3", name, strconv.FormatInt(n, 10))
			named := strings.Contains(out, fmt.Sprintf("out of range [%d - %d]", r.Min, r.Max))
			if err == nil || n >= 0 && !named {
				t.Errorf("%s %d: %v, %s; want the range %d to %d", name, n, err, out, r.Min, r.Max)
			}
		}
	}
}

// TestOptionEdges starts bricks and a client with the lowest and with the highest allowed numbers.
func TestOptionEdges(t *testing.T) {
	t.Parallel()
	for edge, value := range map[string]func(schema.OptionRange) int64{
		"lowest":  func(r schema.OptionRange) int64 { return r.Min },
		"highest": func(r schema.OptionRange) int64 { return r.Max },
	} {
		t.Run(edge, func(t *testing.T) {
			t.Parallel()
			options := map[string]string{"performance.io-cache": "on"}
			for name, r := range schema.OptionRanges {
				options[name] = strconv.FormatInt(value(r), 10)
			}
			// A client does not start with a larger cache than the machine has memory.
			options["performance.cache-size"] = strconv.Itoa(schema.MinIOCache)
			c := bricks.Start(t, schema.Replica3, 3, func(p *volfile.Pool) { p.Options = options })
			bricks.Write(t, c.Mount("edge", volfile.Client), edge, 3)
		})
	}
}

// TestSmallIOCache starts a client with a smaller cache than schema.MinIOCache, which ends at once.
func TestSmallIOCache(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, func(p *volfile.Pool) {
		p.Options = map[string]string{
			"performance.io-cache": "on", "performance.cache-size": strconv.Itoa(schema.MinIOCache - 1),
		}
	})
	if out, err := c.TryMount("small", volfile.Client); err == nil || !strings.Contains(out, "cache-size") {
		t.Errorf("the client started, or ended otherwise: %v\n%s", err, out)
	}
}
