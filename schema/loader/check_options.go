package loader

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// clientOptions checks the options of an External pool against those of its client.
func (c *checker) clientOptions(s *schema.Spec) {
	if s.External == nil {
		return
	}
	for i, o := range s.External.Options {
		path := fmt.Sprintf("spec.external.options[%d]", i)
		name, value, _ := strings.Cut(o, "=")
		valued, known := schema.ClientOptions[name]
		switch {
		case strings.ContainsAny(o, ", \t\n\x00") || o == "": // reported by the schema
		case !known:
			c.fail(path, "client-option", fmt.Sprintf("the client does not accept the option %q", name),
				schema.ClientOptionNames())
		case valued && value == "":
			c.fail(path, "client-option", fmt.Sprintf("the option %q needs a value", name), name+"=…")
		case !valued && o != name:
			c.fail(path, "client-option", fmt.Sprintf("the option %q accepts no value", name), name+" alone")
		}
	}
}

// minDisperseHeal is the minimum heal-timeout of cluster/disperse in GlusterFS 10, in seconds.
const minDisperseHeal = 60

func optionPath(name string) string { return fmt.Sprintf("spec.options[%q]", name) }

// volumeOptions checks values that GlusterFS refuses, and combinations that break a promise.
func (c *checker) volumeOptions(s *schema.Spec) {
	for name, r := range schema.OptionRanges {
		if n, set := optionNumber(s, name); set && (n < r.Min || n > r.Max) {
			c.fail(optionPath(name), "option-range",
				fmt.Sprintf("GlusterFS does not start with %s", s.Options[name]), describeRange(r))
		}
	}
	c.caches(s)
	c.quorum(s)
	const ping, heal = "network.ping-timeout", "cluster.heal-timeout"
	if n, set := optionNumber(s, ping); set && n < schema.MinPingTimeout {
		c.fail(optionPath(ping), "option-range",
			"clients would take bricks that are only busy for dead, or wait for dead ones for ever",
			fmt.Sprintf("%q or more", strconv.Itoa(schema.MinPingTimeout)))
	}
	if n, set := optionNumber(s, heal); set && s.Type == schema.Disperse && n < minDisperseHeal {
		c.warn(optionPath(heal), "option-raised",
			fmt.Sprintf("below the minimum of Disperse, which uses %d seconds", minDisperseHeal),
			fmt.Sprintf("%q or more", strconv.Itoa(minDisperseHeal)))
	}
}

// caches checks the size of the clients' caches.
func (c *checker) caches(s *schema.Spec) {
	const name = "performance.cache-size"
	n, set := optionNumber(s, name)
	switch {
	case !set:
	case n < schema.MinIOCache && s.Options["performance.io-cache"] == "on":
		c.fail(optionPath(name), "option-range",
			fmt.Sprintf("clients do not start with performance.io-cache and a cache of %s", s.Options[name]),
			`"4MB" or more, or performance.io-cache: "off"`)
	case n > schema.LargeCache && n <= schema.OptionRanges[name].Max:
		c.warn(optionPath(name), "option-cache",
			"each node needs this memory for its client, which does not start on a node that has less", `"1GB" or less`)
	}
}

// quorum checks that writes need a majority of the bricks where something relies on that.
func (c *checker) quorum(s *schema.Spec) {
	const name = "cluster.quorum-type"
	if s.Options[name] != "none" {
		return
	}
	path, remedy := optionPath(name), `"auto", or remove the option`
	switch {
	case slices.Contains(s.Volumes, schema.Block):
		c.fail(path, "option-quorum",
			"block volumes rely on majorities: without them two nodes can write to one volume", remedy)
	case s.Tiebreaker != nil:
		c.fail(path, "option-quorum", "without a quorum the tiebreaker is not asked, and bricks go into split-brain",
			remedy)
	case s.SetSize() > 1 && s.Type != schema.Disperse:
		c.warn(path, "option-quorum",
			"nodes that see different bricks can write to one file: split-brain, in which the file cannot be read", remedy)
	}
}

// describeRange describes the allowed numbers.
func describeRange(r schema.OptionRange) string {
	switch r.Unit {
	case "bytes":
		return fmt.Sprintf("a size from %s to %s", bytesOf(r.Min), bytesOf(r.Max))
	case "s":
		return fmt.Sprintf("%d to %d seconds", r.Min, r.Max)
	}
	return fmt.Sprintf("a number from %d to %d", r.Min, r.Max)
}

// bytesOf writes a number of bytes as an option's value.
func bytesOf(n int64) string {
	for _, unit := range []struct {
		suffix string
		factor int64
	}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}} {
		if n >= unit.factor && n%unit.factor == 0 {
			return strconv.FormatInt(n/unit.factor, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// optionNumber is the value of an option in its unit. The schema reports values that are not numbers.
func optionNumber(s *schema.Spec, name string) (n int64, set bool) {
	text, set := s.Options[name]
	if !set {
		return 0, false
	}
	factor := int64(1)
	for _, unit := range []struct {
		suffix string
		factor int64
	}{{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}} {
		if rest, found := strings.CutSuffix(text, unit.suffix); found {
			text, factor = rest, unit.factor
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n * factor, err == nil
}
