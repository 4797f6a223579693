package gluster

import (
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// optionValues has a value that differs from glusterd's default for every option of the schema.
var optionValues = map[string]string{
	"performance.quick-read": "off", "performance.open-behind": "off", "performance.write-behind": "off",
	"performance.stat-prefetch": "off", "performance.read-ahead": "on", "performance.io-cache": "on",
	"performance.readdir-ahead": "on", "performance.nl-cache": "on", "performance.client-io-threads": "off",
	"performance.cache-size": "16MB", "performance.write-behind-window-size": "2MB",
	"performance.md-cache-timeout": "7",
	"performance.io-thread-count":  "9", "performance.strict-o-direct": "on", "performance.flush-behind": "off",
	"network.ping-timeout": "11", "cluster.heal-timeout": "77", "cluster.shd-max-threads": "3",
	"cluster.quorum-type": "none", "cluster.lookup-optimize": "off", "cluster.readdir-optimize": "off",
	"cluster.min-free-disk": "6%", "cluster.favorite-child-policy": "mtime", "features.shard-block-size": "32MB",
	"storage.reserve": "3", "storage.health-check-interval": "21", "diagnostics.client-log-level": "WARNING",
	"diagnostics.brick-log-level": "ERROR", "server.outstanding-rpc-limit": "33",
}

// TestOptionsAsGlusterd sets every option on real volumes, and compares our graphs with
// glusterd's: an option appears in the same xlators with the same name and value, and a switch
// adds and removes the same xlators.
func TestOptionsAsGlusterd(t *testing.T) {
	t.Parallel()
	g := bricks.StartGlusterd(t, "127.1.1.3")
	kinds := map[string]struct {
		kind  schema.Type
		shape []string
	}{
		"r3": {schema.Replica3, []string{"replica", "3"}},
		"ec": {schema.Disperse, []string{"disperse-data", "2", "redundancy", "1"}},
	}
	for name, k := range kinds {
		g.Create(name, 3, k.shape...)
		g.Do("volume", "set", name, "features.shard", "on")
		for _, option := range definition.OptionNames() {
			value, known := optionValues[option]
			if !known {
				t.Errorf("the test has no value for %s", option)
				continue
			}
			if k.kind == schema.Disperse && replicateOnly[option] {
				continue
			}
			g.Do("volume", "set", name, option, value)
			theirs := volfiles(t, g, name)
			g.Do("volume", "reset", name, option)
			before := volfiles(t, g, name)
			compareOption(t, name+" "+option+" "+value, k.kind, option, value, before, theirs)
		}
	}
}

// replicateOnly are options that glusterd refuses for a dispersed volume.
var replicateOnly = map[string]bool{
	"cluster.quorum-type": true, "cluster.favorite-child-policy": true, "cluster.heal-timeout": true,
	"cluster.shd-max-threads": true,
}

// ours returns our graphs of the same type of volume.
func ours(t *testing.T, kind schema.Type, options map[string]string) map[string]parsed {
	t.Helper()
	p := volfile.Pool{
		Name: "p", Type: kind, VolumeID: "64220cb5-c301-41b1-b4f1-e5756b3171dc", Data: 2, Redundancy: 1,
		Options: options,
	}
	for range 3 {
		p.Bricks = append(p.Bricks, volfile.Endpoint{Host: "127.0.0.1", Port: 1, Directory: "/b"})
	}
	all := map[string]parsed{}
	for graph, build := range map[string]func() (*volfile.Xlator, error){
		"brick":  func() (*volfile.Xlator, error) { return volfile.Brick(p, 0) },
		"client": func() (*volfile.Xlator, error) { return volfile.Client(p) },
		"block":  func() (*volfile.Xlator, error) { return volfile.BlockClient(p) },
		"heal":   func() (*volfile.Xlator, error) { return volfile.Heal(p) },
	} {
		x, err := build()
		if err != nil {
			t.Fatal(err)
		}
		text, err := volfile.Print(x)
		if err != nil {
			t.Fatal(err)
		}
		all[graph] = parse(text)
	}
	return all
}

// compareOption checks that our graphs have what the option changed in glusterd's.
func compareOption(t *testing.T, what string, kind schema.Type, option, value string, before, after map[string]parsed) {
	t.Helper()
	mine := ours(t, kind, map[string]string{option: value})
	seen := false
	for graph, xlators := range after {
		for xlator, options := range xlators {
			if strings.HasSuffix(xlator, " again") {
				continue
			}
			if before[graph][xlator] == nil {
				seen = true
				if mine[graph][xlator] == nil {
					t.Errorf("%s: glusterd adds %s to the %s graph, ours lacks it", what, xlator, graph)
				}
			}
			for name, set := range options {
				if before[graph][xlator] == nil || before[graph][xlator][name] == set {
					continue
				}
				seen = true
				where := graph
				if xlator == "features/shard" {
					where = "block"
				}
				if has := mine[where][xlator]; has != nil && has[name] != set {
					t.Errorf("%s: in the %s graph glusterd sets %s of %s to %q, we have %q", what, where, name, xlator,
						set, has[name])
				}
			}
		}
		for xlator := range before[graph] {
			if xlators[xlator] == nil && !strings.HasSuffix(xlator, " again") {
				seen = true
				if mine[graph][xlator] != nil {
					t.Errorf("%s: glusterd removes %s from the %s graph, ours has it", what, xlator, graph)
				}
			}
		}
	}
	if !seen {
		t.Errorf("%s: glusterd changes nothing: the test's value is the default", what)
	}
	compareBack(t, what, kind, mine, after)
}

// compareBack checks that glusterd's graphs have what the option changes in ours.
func compareBack(t *testing.T, what string, kind schema.Type, mine, theirs map[string]parsed) {
	t.Helper()
	plain := ours(t, kind, nil)
	for graph, xlators := range mine {
		for xlator, options := range xlators {
			for name, set := range options {
				if plain[graph][xlator][name] == set || name == "transport.tcp-user-timeout" { // ADR 28
					continue
				}
				where := graph
				if graph == "block" {
					where = "client"
				}
				if has, known := theirs[where][xlator]; known && has[name] != set {
					t.Errorf("%s: in the %s graph we set %s of %s to %q, glusterd has %q", what, graph, name, xlator,
						set, has[name])
				}
			}
		}
	}
}
