package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

func (k *converter) disperse(n *yaml.Node, path string) {
	d := &schema.DisperseSpec{}
	n = yamlnode.Resolve(n)
	if n.Kind != yaml.MappingNode {
		k.fail(path, "kadalu-shape", "disperse is not a mapping", "{data: 2, redundancy: 1}")
		return
	}
	for key, value := range yamlnode.Pairs(n) {
		p := path + "." + key.Value
		switch fold(key.Value) {
		case "data":
			d.Data = k.number(value, p)
		case "redundancy":
			d.Redundancy = k.number(value, p)
		default:
			k.warn(p, "field-unknown", fmt.Sprintf("unknown field %q is left out", key.Value), "data, redundancy")
		}
	}
	k.pool.Spec.Disperse = d
}

// tiebreaker: Kadalu's thin arbiter is always run outside, by somebody else.
func (k *converter) tiebreaker(n *yaml.Node, path string) {
	n = yamlnode.Resolve(n)
	if n.Kind != yaml.MappingNode {
		k.fail(path, "kadalu-shape", "tiebreaker is not a mapping", "{node, path, port}")
		return
	}
	t := &schema.Tiebreaker{}
	for key, value := range yamlnode.Pairs(n) {
		p := path + "." + key.Value
		switch fold(key.Value) {
		case "node":
			t.Host = k.text(value, p)
		case "path":
			t.Path = trimSlash(k.text(value, p))
		case "port":
			t.Port = k.number(value, p)
		default:
			k.warn(p, "field-unknown", fmt.Sprintf("unknown field %q is left out", key.Value), "node, path, port")
		}
	}
	k.pool.Spec.Tiebreaker = t
}

// details accepts the mapping that the operator takes and the list that the
// design of 2019 writes. Of a list, every entry must name the same volume; the
// hosts are joined.
func (k *converter) details(n *yaml.Node, path string) {
	n = yamlnode.Resolve(n)
	k.pool.Spec.External = &schema.ExternalSpec{}
	switch n.Kind {
	case yaml.MappingNode:
		k.detail(n, path)
	case yaml.SequenceNode:
		k.warn(path, "kadalu-details-list", "details is a list, as in the design of 2019; its entries are joined",
			"write a mapping with gluster_hosts, gluster_volname and gluster_options")
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			if item = yamlnode.Resolve(item); item.Kind == yaml.MappingNode {
				k.detail(item, at)
				continue
			}
			k.fail(at, "kadalu-shape", "this is not a mapping", "{gluster_node, gluster_volname}")
		}
	default:
		k.fail(path, "kadalu-shape", "details is neither a mapping nor a list", "{gluster_host, gluster_volname, gluster_options}")
	}
	e := k.pool.Spec.External
	if len(e.Hosts) == 0 {
		k.fail(path, "field-missing", "details name no host", "gluster_host or gluster_hosts")
	}
	if e.Volume == "" {
		k.fail(path, "field-missing", "details name no volume", "gluster_volname")
	}
}

func (k *converter) detail(n *yaml.Node, path string) {
	e := k.pool.Spec.External
	for key, value := range yamlnode.Pairs(n) {
		p := path + "." + key.Value
		switch fold(key.Value) {
		case "glusterhost", "glusternode":
			k.host(k.text(value, p), p)
		case "glusterhosts", "glusternodes":
			k.hosts(value, p)
		case "glustervolname":
			name := strings.TrimPrefix(k.text(value, p), "/")
			if e.Volume != "" && e.Volume != name {
				k.fail(p, "kadalu-details-volume", fmt.Sprintf("details name two volumes, %q and %q", e.Volume, name), "one volume a pool: write a second document")
			}
			e.Volume = name
		case "glusteroptions":
			k.mountOptions(k.text(value, p), p)
		case "glusterport":
			e.Port = k.number(value, p)
		default:
			k.warn(p, "field-unknown", fmt.Sprintf("unknown field %q is left out", key.Value), "gluster_host, gluster_hosts, gluster_volname, gluster_options")
		}
	}
}

func (k *converter) hosts(n *yaml.Node, path string) {
	n = yamlnode.Resolve(n)
	if n.Kind != yaml.SequenceNode {
		for host := range strings.SplitSeq(k.text(n, path), ",") {
			k.host(strings.TrimSpace(host), path)
		}
		return
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		k.host(k.text(item, at), at)
	}
}

func (k *converter) host(host, path string) {
	if host == "" {
		k.fail(path, "kadalu-host", "the host is empty", "a host name or an IP address")
		return
	}
	if _, err := netip.ParseAddr(host); err != nil && !strings.Contains(host, ".") {
		k.warn(path, "kadalu-host-short", fmt.Sprintf("host %q is a short name, which pods may not resolve", host),
			"a full name or an address, or hostAliases in the converted pool")
	}
	if e := k.pool.Spec.External; !slices.Contains(e.Hosts, host) {
		e.Hosts = append(e.Hosts, host)
	}
}

// mountOptions splits the comma list. Gluster's client has options with '-',
// people wrote some with '_'.
func (k *converter) mountOptions(list, path string) {
	e := k.pool.Spec.External
	for option := range strings.SplitSeq(list, ",") {
		option = strings.TrimSpace(option)
		if option == "" {
			continue
		}
		name, value, valued := strings.Cut(option, "=")
		fixed := strings.ReplaceAll(strings.TrimPrefix(name, "--"), "_", "-")
		if fixed != name {
			k.warn(path, "kadalu-option-spelling", fmt.Sprintf("option %q is taken for %q", name, fixed), "write "+fixed)
		}
		if _, known := schema.ClientOptions[fixed]; !known {
			k.warn(path, "kadalu-option-unknown", fmt.Sprintf("option %q is not one for a volume's client, and is left out", fixed), schema.ClientOptionNames())
			continue
		}
		if valued {
			fixed += "=" + value
		}
		e.Options = append(e.Options, fixed)
	}
}

// format reads kadalu_format, the inverse of single_pv_per_pool in older files.
func (k *converter) format(n *yaml.Node, path string) {
	switch strings.ToLower(k.text(n, path)) {
	case "native", "true", "yes", "on":
	case "non-native", "false", "no", "off":
		k.pool.Spec.Volumes = []schema.Layout{schema.Single}
	default:
		k.fail(path, "value", fmt.Sprintf("%q is not a format", n.Value), "native or non-native (true or false)")
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

// options reads the list of {key, value}, and the mapping that some wrote.
func (k *converter) options(n *yaml.Node, path string) {
	n = yamlnode.Resolve(n)
	set := func(key, value, at string) {
		if k.pool.Spec.Options == nil {
			k.pool.Spec.Options = map[string]string{}
		}
		if !definition.HasOption(key) {
			k.warn(at, "option-unknown", fmt.Sprintf("option %q is not known and is left out", key), "an option of #Options in pool.cue")
			return
		}
		k.pool.Spec.Options[key] = value
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			if item = yamlnode.Resolve(item); item.Kind != yaml.MappingNode {
				k.fail(at, "kadalu-shape", "this is not an option", "{key, value}")
				continue
			}
			set(k.text(yamlnode.Field(item, "key"), at+".key"), k.optionValue(yamlnode.Field(item, "value"), at+".value"), at)
		}
	case yaml.MappingNode:
		for key, value := range yamlnode.Pairs(n) {
			at := path + "[" + strconv.Quote(key.Value) + "]"
			set(key.Value, k.optionValue(value, at), at)
		}
	default:
		k.fail(path, "kadalu-shape", "options is neither a list nor a mapping", "a list of {key, value}")
	}
}

// optionValue reads an option's value; YAML 1.1 files have bare on and off.
func (k *converter) optionValue(n *yaml.Node, path string) string {
	if n != nil && n.Tag == "!!bool" {
		if on, err := strconv.ParseBool(strings.ToLower(n.Value)); err == nil {
			return map[bool]string{true: "on", false: "off"}[on]
		}
	}
	return k.text(n, path)
}
