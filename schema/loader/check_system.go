package loader

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// systemPaths are directories of the node's system. A brick there would be deleted at a boot, or
// would harm the node.
var systemPaths = []string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/tmp", "/usr",
	"/var/lib/containerd", "/var/lib/crio", "/var/lib/docker", "/var/lib/etcd", "/var/lib/kubelet",
	"/var/run", "/var/tmp",
}

// unstableDevice matches names that the kernel gives in the order in which it finds disks.
var unstableDevice = regexp.MustCompile(`^/dev/((sd|vd|xvd|hd)[a-z]+[0-9]*|nvme[0-9]+n[0-9]+(p[0-9]+)?)$`)

// systemPlaces checks that bricks are not in directories of the system, and warns of names that may
// belong to another disk after a boot.
func (c *checker) systemPlaces(s *schema.Spec) {
	check := func(at, path string) {
		i := slices.IndexFunc(systemPaths, func(system string) bool {
			return path == system || strings.HasPrefix(path, system+"/")
		})
		if i >= 0 {
			c.fail(at, "system-path", fmt.Sprintf("%s belongs to the node's system", systemPaths[i]),
				"a directory of its own for the brick, such as /srv/atoll/"+c.document.Pool.Metadata.Name)
		}
	}
	for i, b := range s.Bricks {
		at := fmt.Sprintf("spec.bricks[%d]", i)
		if b.Path != "" {
			check(at+".path", b.Path)
		}
		if unstableDevice.MatchString(b.Device) {
			c.warn(at+".device", "device-name",
				fmt.Sprintf("%s may be another disk after a boot, and then the brick does not start", b.Device),
				fmt.Sprintf("the disk's name below /dev/disk/by-id ('ls -l /dev/disk/by-id' on node %s)", b.Node))
		}
	}
	if t := s.Tiebreaker; t != nil && t.Node != "" {
		check("spec.tiebreaker.path", t.Path)
	}
}

// resources checks that no limit is below its request: Kubernetes would refuse the pods.
func (c *checker) resources(s *schema.Spec) {
	if s.Resources == nil {
		return
	}
	for name, limit := range s.Resources.Limits {
		request, set := s.Resources.Requests[name]
		most, least := quantity(limit), quantity(request)
		if set && most != nil && least != nil && most.Cmp(least) < 0 {
			c.fail(fmt.Sprintf("spec.resources.limits[%q]", name), "resource-limit",
				fmt.Sprintf("the limit of %s is below its request of %s", limit, request), request+" or more")
		}
	}
}

// suffixes of quantities (#Quantity in pool.cue).
var suffixes = map[string]*big.Rat{
	"m": big.NewRat(1, 1000), "k": big.NewRat(1e3, 1), "M": big.NewRat(1e6, 1), "G": big.NewRat(1e9, 1),
	"T": big.NewRat(1e12, 1), "Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1),
	"Gi": big.NewRat(1<<30, 1), "Ti": big.NewRat(1<<40, 1),
}

// quantity is the number of a Kubernetes quantity, nil if it is none, which the schema reports.
func quantity(text string) *big.Rat {
	number := strings.TrimRight(text, "mkMGTKi")
	n, ok := new(big.Rat).SetString(number)
	if !ok {
		return nil
	}
	if suffix := text[len(number):]; suffix != "" {
		factor, known := suffixes[suffix]
		if !known {
			return nil
		}
		n.Mul(n, factor)
	}
	return n
}
