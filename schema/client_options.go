package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ClientOptions are the options of 'glusterfs --help', version 10, that an External
// pool may give its client; true is one that has a value. The driver holds the same
// list. Options that say where a client logs or what it mounts are the driver's.
var ClientOptions = map[string]bool{
	"acl": false, "attribute-timeout": true, "background-qlen": true, "backup-volfile-servers": true,
	"congestion-threshold": true, "direct-io-mode": true, "entry-timeout": true, "event-history": true,
	"fopen-keep-cache": true, "gid-timeout": true, "log-level": true, "lru-limit": true, "negative-timeout": true,
	"read-only": false, "reader-thread-count": true, "resolve-gids": false, "selinux": false,
	"use-readdirp": true, "volfile-max-fetch-attempts": true, "xlator-option": true,
}

// clientOptionNames lists them.
func clientOptionNames() string { return strings.Join(slices.Sorted(maps.Keys(ClientOptions)), ", ") }

// clientOptions holds the options of an External pool to what its client takes.
func (c *checker) clientOptions(s *Spec) {
	if s.External == nil {
		return
	}
	for i, o := range s.External.Options {
		path := fmt.Sprintf("spec.external.options[%d]", i)
		name, value, _ := strings.Cut(o, "=")
		valued, known := ClientOptions[name]
		switch {
		case strings.ContainsAny(o, ", \t\n\x00") || o == "": // said already
		case !known:
			c.fail(path, "client-option", fmt.Sprintf("the client does not take the option %q", name), clientOptionNames())
		case valued && value == "":
			c.fail(path, "client-option", fmt.Sprintf("the option %q has no value", name), name+"=…")
		case !valued && o != name:
			c.fail(path, "client-option", fmt.Sprintf("the option %q has no values", name), name+" alone")
		}
	}
}
