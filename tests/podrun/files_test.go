package podrun_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/podrun"
)

// files maps names to checksums.
type files map[string][32]byte

// fill writes n small files and one of 4 MiB.
func fill(t *testing.T, dir, prefix string, n int) files {
	t.Helper()
	written := files{}
	random := rand.NewChaCha8(sha256.Sum256([]byte(prefix)))
	for i := range n + 1 {
		text := make([]byte, i*100)
		if i == n {
			text = make([]byte, 4<<20)
		}
		_, _ = random.Read(text) // it never fails
		name := fmt.Sprintf("%s-%d", prefix, i)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatalf("writing: %v", err)
		}
		written[name] = sha256.Sum256(text)
	}
	return written
}

// check reads files back.
func check(t *testing.T, dir string, want files) {
	t.Helper()
	for name, sum := range want {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || sha256.Sum256(text) != sum {
			t.Fatalf("reading %s: wrong or %v", name, err)
		}
	}
}

func eventually(t *testing.T, c *podrun.Cluster, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			for _, pod := range c.Pods() {
				t.Logf("%s self-heal:\n%s", pod, c.Log(pod, "self-heal"))
			}
			t.Fatalf("after %s it is still not so that %s", limit, what)
		}
	}
}

func itoa(i int) string { return strconv.Itoa(i) }
