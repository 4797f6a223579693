package schema

import (
	"maps"
	"slices"
	"strings"
)

// ClientOptions are the options of 'glusterfs --help', version 10, that an External
// pool may set for its client. The value reports whether the option needs a value.
// Options that say where a client logs or what it mounts are the driver's.
var ClientOptions = map[string]bool{
	"acl": false, "attribute-timeout": true, "background-qlen": true, "backup-volfile-servers": true,
	"congestion-threshold": true, "direct-io-mode": true, "entry-timeout": true, "event-history": true,
	"fopen-keep-cache": true, "gid-timeout": true, "log-level": true, "lru-limit": true, "negative-timeout": true,
	"read-only": false, "reader-thread-count": true, "resolve-gids": false, "selinux": false,
	"use-readdirp": true, "volfile-max-fetch-attempts": true, "xlator-option": true,
}

// ClientOptionNames lists the names of ClientOptions for a message.
func ClientOptionNames() string {
	return strings.Join(slices.Sorted(maps.Keys(ClientOptions)), ", ")
}
