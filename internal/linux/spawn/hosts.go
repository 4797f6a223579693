package spawn

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/mounted"
)

// hosts is the C library's file of host names (hosts(5)).
const hosts = "/etc/hosts"

// Hosts returns a prepare function for StartAside that gives the command file as its /etc/hosts.
// Mounts that the command makes below the directory shared stay visible to other processes: if
// necessary, Hosts makes that directory a mount, which the caller must unmount.
func Hosts(file, shared string) (prepare func() error, err error) {
	names, err := mounted.Containing(hosts)
	if err != nil {
		return nil, err
	}
	outside, err := mounted.Containing(shared)
	if err != nil {
		return nil, err
	}
	if !mounted.Shared(outside) || outside.Mountpoint == names.Mountpoint {
		// Its copy in the other namespace is its peer.
		if err := unix.Mount(shared, shared, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("bind %s to itself: %w", shared, err)
		}
		if err := unix.Mount("", shared, "", unix.MS_SHARED, ""); err != nil {
			return nil, fmt.Errorf("share mounts below %s: %w", shared, err)
		}
	}
	return func() error {
		if err := unix.Mount("", names.Mountpoint, "", unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make the mount of %s private: %w", hosts, err)
		}
		if err := unix.Mount(file, hosts, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("replace %s for a process: %w", hosts, err)
		}
		return nil
	}, nil
}
