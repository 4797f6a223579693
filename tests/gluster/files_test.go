// Package gluster starts real glusterfsd bricks, mounts and self-heal daemons
// from rendered volfiles, on loopback, and breaks them.
package gluster

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// files maps names to checksums.
type files map[string][32]byte

// write fills a folder of the mount with n small files and one of 8 MiB.
func write(t *testing.T, dir, prefix string, n int) files {
	t.Helper()
	written := files{}
	random := rand.NewChaCha8(sha256.Sum256([]byte(prefix)))
	for i := range n + 1 {
		size := i * 37
		if i == n {
			size = 8 << 20
		}
		data := make([]byte, size)
		random.Read(data)
		name := fmt.Sprintf("%s-%d", prefix, i)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatalf("writing: %v", err)
		}
		written[name] = checksum(data)
	}
	return written
}

// verify reads every file back.
func (f files) verify(t *testing.T, dir string) {
	t.Helper()
	for name, sum := range f {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || checksum(data) != sum {
			t.Fatalf("reading %s: wrong content or %v", name, err)
		}
	}
}

func checksum(data []byte) [32]byte { return sha256.Sum256(data) }
