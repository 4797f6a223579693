package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
)

// details reads the mapping that Kadalu's operator accepts, and the list of its design
// of 2019. The hosts of a list are merged; every entry must name the same volume.
func (k *converter) details(n *yaml.Node, path string) {
	e := &schema.ExternalSpec{}
	k.pool.Spec.External = e
	switch n.Kind {
	case yaml.MappingNode:
		k.detail(n, path)
	case yaml.SequenceNode:
		k.warn(path, "kadalu-details-list", "details is a list, as in Kadalu's design of 2019; its entries are merged",
			"write a mapping with gluster_hosts, gluster_volname and gluster_options")
		for at, item := range items(n, path) {
			k.detail(item, at)
		}
	default:
		k.fail(path, "kadalu-shape", "details is neither a mapping nor a list",
			"{gluster_host, gluster_volname, gluster_options}")
	}
	if len(e.Hosts) == 0 {
		k.fail(path, "field-missing", "details names no host", "gluster_host or gluster_hosts")
	}
	if e.Volume == "" {
		k.fail(path, "field-missing", "details names no volume", "gluster_volname")
	}
}

func (k *converter) detail(n *yaml.Node, path string) {
	k.mapping(n, path, "this", "{gluster_host, gluster_volname}", []fieldReader{
		{name: "gluster_host", read: k.host},
		{name: "gluster_hosts", read: k.hosts},
		{name: "gluster_volname", read: k.volume},
		{name: "gluster_options", read: k.mountOptions},
		{name: "gluster_port", read: k.numberTo(&k.pool.Spec.External.Port)},
		{name: "gluster_node", read: k.host, legacy: true},
		{name: "gluster_nodes", read: k.hosts, legacy: true},
	})
}

func (k *converter) volume(n *yaml.Node, path string) {
	e := k.pool.Spec.External
	name := strings.TrimPrefix(k.text(n, path), "/")
	if e.Volume != "" && e.Volume != name {
		k.fail(path, "kadalu-details-volume", fmt.Sprintf("details names two volumes, %q and %q", e.Volume, name),
			"one volume per pool: write a second document")
	}
	e.Volume = name
}

func (k *converter) host(n *yaml.Node, path string) { k.addHost(k.text(n, path), path) }

// hosts reads a list of hosts, or a string with commas.
func (k *converter) hosts(n *yaml.Node, path string) {
	if n.Kind != yaml.SequenceNode {
		for host := range strings.SplitSeq(k.text(n, path), ",") {
			k.addHost(strings.TrimSpace(host), path)
		}
		return
	}
	for at, item := range items(n, path) {
		k.host(item, at)
	}
}

func (k *converter) addHost(host, path string) {
	if host == "" {
		k.fail(path, "kadalu-host", "the host is empty", "a host name or an IP address")
		return
	}
	if _, err := netip.ParseAddr(host); err != nil && !strings.Contains(host, ".") {
		k.warn(path, "kadalu-host-short", fmt.Sprintf("host %q is a short name, which pods may not resolve", host),
			"a fully qualified name or an address, or hostAliases in the converted pool")
	}
	if e := k.pool.Spec.External; !slices.Contains(e.Hosts, host) {
		e.Hosts = append(e.Hosts, host)
	}
}

// mountOptions splits the comma-separated list. Gluster's client has options with '-',
// which some documents spell with '_'.
func (k *converter) mountOptions(n *yaml.Node, path string) {
	e := k.pool.Spec.External
	for option := range strings.SplitSeq(k.text(n, path), ",") {
		option = strings.TrimSpace(option)
		if option == "" {
			continue
		}
		name, value, valued := strings.Cut(option, "=")
		fixed := strings.ReplaceAll(strings.TrimPrefix(name, "--"), "_", "-")
		if fixed != name {
			k.warn(path, "kadalu-option-spelling", fmt.Sprintf("option %q is read as %q", name, fixed), "write "+fixed)
		}
		if _, known := schema.ClientOptions[fixed]; !known {
			k.warn(path, "kadalu-option-unknown", fmt.Sprintf("unknown client option %q is ignored", fixed),
				schema.ClientOptionNames())
			continue
		}
		if valued {
			fixed += "=" + value
		}
		e.Options = append(e.Options, fixed)
	}
}
