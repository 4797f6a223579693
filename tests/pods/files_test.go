package pods

import (
	"strconv"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

func eventually(t *testing.T, c *podrun.Cluster, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			for _, pod := range c.Pods() {
				t.Logf("%s self-heal:\n%s", pod, c.Log(pod, "self-heal"))
			}
			t.Logf("rebalance:\n%s", c.Log("atoll-fast-rebalance-0", "rebalance"))
			t.Fatalf("after %s it is still not so that %s", limit, what)
		}
	}
}

func itoa(i int) string { return strconv.Itoa(i) }
