package gluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// volfiles returns the graphs that glusterd wrote for a volume: of a brick, of a client, and of
// the self-heal daemon.
func volfiles(t *testing.T, g *bricks.Glusterd, name string) map[string]parsed {
	t.Helper()
	files := map[string]parsed{}
	all, err := filepath.Glob(filepath.Join(g.Dir, "work/vols", name, "*.vol"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no volfiles of %s: %v", name, err)
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch base := filepath.Base(path); {
		case base == name+".tcp-fuse.vol":
			files["client"] = parse(string(text))
		case base == name+"-shd.vol":
			files["heal"] = parse(string(text))
		case strings.HasSuffix(base, name+"-0.vol"):
			files["brick"] = parse(string(text))
		}
	}
	return files
}

// parsed maps the types of a graph's xlators to the options of the first xlator of the type.
type parsed map[string]map[string]string

func parse(volfile string) parsed {
	p := parsed{}
	kind := ""
	for line := range strings.Lines(volfile) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "type":
			kind = fields[1]
			if p[kind] != nil {
				kind += " again"
			}
			p[kind] = map[string]string{}
		case len(fields) >= 3 && fields[0] == "option":
			p[kind][fields[1]] = strings.Join(fields[2:], " ")
		}
	}
	return p
}
