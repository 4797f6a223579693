package spawn

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
)

// hosts is where the C library looks for names (hosts(5)).
const hosts = "/etc/hosts"

// Hosts makes a prepare of StartAside by which the command sees a file as its own
// /etc/hosts. What it mounts below the folder shared is still seen by everybody: if
// need be, the folder becomes a mount of its own, which is the caller's to unmount.
func Hosts(file, shared string) (prepare func() error, err error) {
	names, err := mountinfo.Holding(hosts)
	if err != nil {
		return nil, err
	}
	outside, err := mountinfo.Holding(shared)
	if err != nil {
		return nil, err
	}
	if !outside.Shared || outside.Target == names.Target {
		// Its copy in the other namespace is its peer.
		if err := unix.Mount(shared, shared, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("binding %s to itself: %w", shared, err)
		}
		if err := unix.Mount("", shared, "", unix.MS_SHARED, ""); err != nil {
			return nil, fmt.Errorf("sharing what is mounted below %s: %w", shared, err)
		}
	}
	return func() error {
		if err := unix.Mount("", names.Target, "", unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("keeping %s to one process: %w", hosts, err)
		}
		if err := unix.Mount(file, hosts, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("giving a process names of its own: %w", err)
		}
		return nil
	}, nil
}
