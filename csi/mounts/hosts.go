package mounts

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/schema"
)

// aliases maps the host names of an External pool to addresses.
func aliases(x *schema.ExternalSpec) map[string]string {
	all := map[string]string{}
	for _, a := range x.HostAliases {
		for _, name := range a.Hostnames {
			all[name] = a.IP
		}
	}
	return all
}

// spawn starts the process of a client; done is closed when the process has ended. The
// client of a pool with host aliases runs with an /etc/hosts that only it sees: another
// pool may map the same names to other addresses.
func (cl *client) spawn(cmd *exec.Cmd, p catalog.Pool, done <-chan struct{}) error {
	if p.Type != schema.External || len(p.External.HostAliases) == 0 {
		return spawn.Start(cmd)
	}
	file := cl.target + ".hosts"
	if err := writeHosts(file, aliases(p.External)); err != nil {
		return fmt.Errorf("write host aliases of pool %s: %w", p.Pool, err)
	}
	prepare, err := spawn.Hosts(file, filepath.Dir(cl.target))
	if err != nil {
		return err
	}
	return spawn.StartAside(cmd, prepare, done)
}

// writeHosts writes the aliases followed by the /etc/hosts of this machine: the first
// line with a name counts.
func writeHosts(file string, aliases map[string]string) error {
	machine, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		fmt.Fprintf(&text, "%s %s\n", aliases[name], name)
	}
	text.Write(machine)
	return os.WriteFile(file, []byte(text.String()), 0o644)
}
