package convert

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// storage reads the bricks and checks that each has exactly one of device, path and PVC.
func (k *converter) storage(n *yaml.Node, path string) {
	if n.Kind != yaml.SequenceNode {
		k.fail(path, "kadalu-shape", "storage is not a list", "a list of "+brickShape)
		return
	}
	for at, item := range items(n, path) {
		if item.Kind != yaml.MappingNode {
			k.fail(at, "kadalu-shape", "this is not a brick", brickShape)
			continue
		}
		k.pool.Spec.Bricks = append(k.pool.Spec.Bricks, k.brick(item, at))
	}
}

func (k *converter) brick(n *yaml.Node, at string) schema.Brick {
	var b schema.Brick
	k.mapping(n, at, "this", brickShape, []fieldReader{
		{name: "node", read: k.textTo(&b.Node)},
		{name: "device", read: k.textTo(&b.Device)},
		{name: "path", read: k.pathTo(&b.Path)},
		{name: "pvc", read: k.textTo(&b.PVC)},
		{name: "decommissioned", read: k.booleanTo(&b.Decommissioned)},
	})
	places := 0
	for _, place := range []string{b.Device, b.Path, b.PVC} {
		if place != "" {
			places++
		}
	}
	if places != 1 {
		k.fail(at, "brick-place", "a brick needs exactly one of device, path and pvc", brickShape)
	}
	if b.PVC != "" && b.Node != "" {
		k.warn(at+".node", "kadalu-node", "a brick on a PVC has no node; the node is ignored",
			"the claim decides on which nodes its pod can run")
		b.Node = ""
	}
	return b
}

func (k *converter) disperse(n *yaml.Node, path string) {
	d := &schema.DisperseSpec{}
	k.mapping(n, path, "disperse", "{data: 2, redundancy: 1}", []fieldReader{
		{name: "data", read: k.numberTo(&d.Data)},
		{name: "redundancy", read: k.numberTo(&d.Redundancy)},
	})
	k.pool.Spec.Disperse = d
}

// tiebreaker reads a thin arbiter. Kadalu's always runs outside the cluster, so its node
// is a host.
func (k *converter) tiebreaker(n *yaml.Node, path string) {
	t := &schema.Tiebreaker{}
	k.mapping(n, path, "tiebreaker", "{node, path, port}", []fieldReader{
		{name: "node", read: k.textTo(&t.Host)},
		{name: "path", read: k.pathTo(&t.Path)},
		{name: "port", read: k.numberTo(&t.Port)},
	})
	k.pool.Spec.Tiebreaker = t
}

func (k *converter) single(n *yaml.Node, path string) {
	if k.boolean(n, path) {
		k.pool.Spec.Volumes = []schema.Layout{schema.Single}
	}
}

// format reads kadalu_format, the inverse of single_pv_per_pool in older files.
func (k *converter) format(n *yaml.Node, path string) {
	switch written := k.text(n, path); strings.ToLower(written) {
	case "native", "true", "yes", "on":
	case "non-native", "false", "no", "off":
		k.pool.Spec.Volumes = []schema.Layout{schema.Single}
	default:
		k.fail(path, "value", fmt.Sprintf("%q is not a format", written), "native or non-native (true or false)")
	}
}

func (k *converter) reclaim(n *yaml.Node, path string) {
	written := k.text(n, path)
	for _, r := range []schema.Reclaim{schema.ReclaimDelete, schema.ReclaimArchive, schema.ReclaimRetain} {
		if strings.EqualFold(string(r), written) {
			k.pool.Spec.Reclaim = r
			return
		}
	}
	k.fail(path, "value", fmt.Sprintf("%q is not a reclaim policy", written), "delete, archive or retain")
}

// options reads a list of {key, value}, or a mapping, which some documents have.
func (k *converter) options(n *yaml.Node, path string) {
	switch n.Kind {
	case yaml.SequenceNode:
		for at, item := range items(n, path) {
			if item.Kind != yaml.MappingNode {
				k.fail(at, "kadalu-shape", "this is not an option", "{key, value}")
				continue
			}
			name := k.text(yamlnode.Field(item, "key"), at+".key")
			k.option(name, k.optionValue(yamlnode.Field(item, "value"), at+".value"), at)
		}
	case yaml.MappingNode:
		for key, value := range yamlnode.Pairs(n) {
			at := path + "[" + strconv.Quote(key.Value) + "]"
			k.option(key.Value, k.optionValue(value, at), at)
		}
	default:
		k.fail(path, "kadalu-shape", "options is neither a list nor a mapping", "a list of {key, value}")
	}
}

func (k *converter) option(name, value, at string) {
	if !definition.HasOption(name) {
		k.warn(at, "option-unknown", fmt.Sprintf("unknown option %q is ignored", name),
			"an option of #Options in pool.cue")
		return
	}
	if k.pool.Spec.Options == nil {
		k.pool.Spec.Options = map[string]string{}
	}
	k.pool.Spec.Options[name] = value
}

// optionValue reads an option's value; unquoted on and off parse as booleans.
func (k *converter) optionValue(n *yaml.Node, path string) string {
	if n != nil && n.Tag == "!!bool" {
		if on, err := strconv.ParseBool(strings.ToLower(n.Value)); err == nil {
			return map[bool]string{true: "on", false: "off"}[on]
		}
	}
	return k.text(n, path)
}
