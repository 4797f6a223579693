package gluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestHostAliases mounts a volume of a real glusterd whose bricks have names that this machine
// does not resolve, as users of the Kadalu operator have. Without aliases the error names the
// brick and its name; with aliases the volume is mounted, and only its client sees the names.
func TestHostAliases(t *testing.T) {
	t.Parallel()
	names := []string{"brick0.atoll.test", "brick1.atoll.test", "brick2.atoll.test"}
	g := bricks.StartGlusterd(t, "127.1.1.7", names...)
	g.CreateAt(names, "vol", "replica", "3")
	g.Do("volume", "start", "vol")
	clients := host.NewPoolClients(t)
	pool := func(aliases ...schema.HostAlias) catalog.Pool {
		return catalog.Pool{Entry: entry.Entry{Pool: "ext", Type: schema.External, External: &schema.ExternalSpec{
			Hosts: []string{"127.1.1.7"}, Volume: "vol", HostAliases: aliases,
		}}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	begin := time.Now()
	_, err := clients.Root(ctx, pool(), schema.Subdirectory)
	if !errors.Is(err, gluster.ErrNoQuorum) || !strings.Contains(err.Error(), "brick 2 (brick2.atoll.test:") ||
		!strings.Contains(err.Error(),
			"the name brick2.atoll.test does not resolve here; add it to DNS, or to hostAliases") {
		t.Errorf("without aliases: %v", err)
	}
	if took := time.Since(begin); took > probedWithin {
		t.Errorf("the error came after %s", took)
	}
	// Two of three bricks are enough to write; the log names the third.
	two, err := clients.Root(ctx, pool(schema.HostAlias{IP: "127.1.1.7", Hostnames: names[:2]}), schema.Subdirectory)
	if err != nil {
		t.Fatal(err)
	}
	bricks.Write(t, two, "two", 3)
	all, err := clients.Root(ctx, pool(schema.HostAlias{IP: "127.1.1.7", Hostnames: names}), schema.Subdirectory)
	if err != nil {
		t.Fatal(err)
	}
	bricks.Write(t, all, "all", 3).Verify(t, all)
	if _, err := os.Stat(filepath.Join(g.Dir, "brick-vol-2", "all-1")); err != nil {
		t.Errorf("the third brick lacks a file: %v", err)
	}
	if text, err := os.ReadFile("/etc/hosts"); err != nil || strings.Contains(string(text), "atoll.test") {
		t.Errorf("the machine's /etc/hosts has changed: %v\n%s", err, text)
	}
}
