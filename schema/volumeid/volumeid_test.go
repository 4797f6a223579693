package volumeid

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/schema"
)

func TestRoundTrip(t *testing.T) {
	for layout := range layouts {
		want := ID{"fast", layout, "pvc-64220cb5-c301-41b1-b4f1-e5756b3171dc"}
		got, err := Parse(want.String())
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", want, got, err)
		}
	}
}

// TestHostile checks that no text from which a path outside the pool could be built is an
// ID (CVE-2026-3864, CVE-2026-3865 and their follow-ups).
func TestHostile(t *testing.T) {
	for _, text := range []string{
		"", ".", "..", "v1", "v1.dir.p", "v1.dir.p.", "v1.dir..n", "v1.dir.p..", "v1.dir.p.n.x", "v2.dir.p.n",
		"v1.file.p.n", "v1..p.n",
		"v1.dir.p./etc", "v1.dir.p.../x", "v1.dir.../p.n", "v1.dir.p.a/b", "v1.dir.p.a\x00b", "v1.dir.p.A",
		"v1.dir.p.-a",
		"v1.dir.p.a ",
		" v1.dir.p.a", "v1.dir.p.a\n", "v1.dir.p.é", "v1.dir.p." + strings.Repeat("a", 64), "fast#pvc-1#../../",
		strings.Repeat("v1.", 1000),
	} {
		if id, err := Parse(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is parsed as %+v, %v", text, id, err)
		}
	}
}

func TestName(t *testing.T) {
	if got := Name("pvc-1"); got != "pvc-1" {
		t.Errorf("pvc-1 becomes %s", got)
	}
	seen := map[string]string{}
	for _, request := range []string{
		"pvc-1", "PVC-1", "../x", "a/b", "a.b", "é", "", strings.Repeat("a", 200),
		Name("../x"), "x-1",
	} {
		name := Name(request)
		id := ID{"p", schema.Subdirectory, name}
		if other, used := seen[name]; used || id.Check() != nil {
			t.Errorf("%q becomes %q, as does %q; %v", request, name, other, id.Check())
		}
		seen[name] = request
	}
}

func FuzzParse(f *testing.F) {
	f.Add("v1.dir.fast.pvc-1")
	f.Add("v1.single.../..")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := Parse(text)
		if err != nil {
			return
		}
		if id.String() != text {
			t.Errorf("%q is parsed as %s", text, id)
		}
		for _, component := range []string{id.Pool, id.Name} {
			if !filepath.IsLocal(component) || component != filepath.Base(component) || component == "." {
				t.Errorf("%q has the component %q", text, component)
			}
		}
	})
}
