package bricks

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Files maps names of files to checksums of their content.
type Files map[string][32]byte

// Write fills a directory with n small files and one of 8 MiB.
func Write(t testing.TB, dir, prefix string, n int) Files {
	t.Helper()
	written := Files{}
	random := rand.NewChaCha8(sha256.Sum256([]byte(prefix)))
	for i := range n + 1 {
		size := i * 37
		if i == n {
			size = 8 << 20
		}
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		name := fmt.Sprintf("%s-%d", prefix, i)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		written[name] = Checksum(data)
	}
	return written
}

// Verify reads every file back.
func (f Files) Verify(t testing.TB, dir string) {
	t.Helper()
	for name, sum := range f {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || Checksum(data) != sum {
			t.Fatalf("read %s: %d bytes, error %v, or wrong content", name, len(data), err)
		}
	}
}

// Checksum is the checksum that Files has.
func Checksum(data []byte) [32]byte { return sha256.Sum256(data) }
