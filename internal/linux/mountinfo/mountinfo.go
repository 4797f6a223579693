// Package mountinfo reads what is mounted from the kernel: /proc/self/mountinfo,
// proc(5).
package mountinfo

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line.
type Mount struct {
	Device string // major:minor
	Root   string // of the mount within its file system
	Target string // where it is mounted
	Flags  string // of the mount, such as rw,nosuid
	Shared bool   // what is mounted below it is seen by its peers
	Type   string // of the file system, such as fuse.glusterfs
	Source string
}

// Number is a device, as stat(2) gives it, as it is written here.
func Number(device uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
}

// All lists the mounts in the order in which they were made.
func All() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f)
}

// At gives the topmost mount at exactly this path.
func At(target string) (m Mount, found bool, err error) {
	all, err := All()
	for _, candidate := range all {
		if candidate.Target == target {
			m, found = candidate, true
		}
	}
	return m, found, err
}

// Holding gives the mount that a path, which is absolute and clean, lies in.
func Holding(path string) (m Mount, err error) {
	all, err := All()
	for _, candidate := range all {
		at := strings.TrimSuffix(candidate.Target, "/")
		if (path == at || strings.HasPrefix(path, at+"/")) && len(candidate.Target) >= len(m.Target) {
			m = candidate
		}
	}
	return m, err
}

// Stacked counts the mounts at exactly this path, one over the other.
func Stacked(target string) (n int, err error) {
	all, err := All()
	for _, m := range all {
		if m.Target == target {
			n++
		}
	}
	return n, err
}

func parse(r io.Reader) ([]Mount, error) {
	var all []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		front, back, found := strings.Cut(lines.Text(), " - ")
		f, b := strings.Fields(front), strings.Fields(back)
		if !found || len(f) < 6 || len(b) < 2 {
			return nil, fmt.Errorf("reading mountinfo: unexpected line %q", lines.Text())
		}
		m := Mount{Device: f[2], Root: plain(f[3]), Target: plain(f[4]), Flags: f[5], Type: b[0], Source: plain(b[1])}
		for _, optional := range f[6:] {
			m.Shared = m.Shared || strings.HasPrefix(optional, "shared:")
		}
		all = append(all, m)
	}
	return all, lines.Err()
}

// plain undoes the escapes of spaces, tabs, newlines and backslashes: \040.
func plain(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
