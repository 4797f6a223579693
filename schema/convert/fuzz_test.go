package convert

import (
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
)

// FuzzConvertKadalu checks that a document is either converted or refused with a diagnostic.
func FuzzConvertKadalu(f *testing.F) {
	files, _ := filepath.Glob("../testdata/kadalu/*.yaml")
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil {
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		var root yaml.Node
		if yaml.Unmarshal([]byte(text), &root) != nil {
			return
		}
		pool, diagnostics := Kadalu(&root, func(string) schema.Position { return schema.Position{File: "f"} })
		if pool == nil && len(diagnostics) == 0 {
			t.Error("refused without a diagnostic")
		}
		if pool != nil {
			if _, err := yaml.Marshal(pool); err != nil {
				t.Error(err)
			}
		}
	})
}
