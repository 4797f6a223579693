package shape_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	cueyaml "cuelang.org/go/encoding/yaml"
	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
)

// TestAgreesWithCUE mutates every value of every example and checks that the compiled
// tree accepts exactly the documents that CUE accepts.
func TestAgreesWithCUE(t *testing.T) {
	compiled := definition.Pool()
	ctx := cuecontext.New()
	pool := ctx.CompileString(schema.PoolCUE).LookupPath(cue.ParsePath("#StoragePool"))
	files, err := filepath.Glob("../../examples/pools/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	documents, refused := 0, 0
	for _, file := range files {
		for text, change := range mutants(t, file) {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
				t.Fatal(err)
			}
			problems := compiled.Check(doc.Content[0])
			ast, err := cueyaml.Extract("f", text)
			if err != nil {
				t.Fatal(err)
			}
			cueErr := pool.Unify(ctx.BuildFile(ast)).Validate(cue.Concrete(true), cue.Final())
			documents++
			if cueErr != nil {
				refused++
			}
			if (len(problems) == 0) != (cueErr == nil) {
				t.Errorf("%s, %s: the tree reports %v, CUE %v", filepath.Base(file), change, problems, cueErr)
			}
		}
	}
	t.Logf("%d documents, %d refused by both", documents, refused)
	if documents < 1000 || refused == 0 || refused == documents {
		t.Error("too few documents compared")
	}
}

// values replace the values of a document.
var values = []string{
	`""`, `zzz`, `"on"`, `"10"`, `5`, `0`, `-1`, `99999`, `1.5`, `true`, `{}`, `{node: a}`,
	`{pvc: a}`, `[]`, `[a]`, `[{}]`, `Replica1`, `External`, `Single`, `/dev/sdz`,
}

// mutants returns the document unchanged and with one change each, and describes the change.
func mutants(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{string(text): "unchanged"}
	for i := 0; ; i++ {
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		nodes := nodesOf(&doc, nil)
		if i == len(nodes) {
			return all
		}
		node := nodes[i]
		original := *node
		change := func(n yaml.Node, description string) {
			*node = n
			out, err := yaml.Marshal(&doc)
			if err != nil {
				t.Fatal(err)
			}
			all[string(out)] = fmt.Sprintf("line %d %s", original.Line, description)
			*node = original
		}
		for _, v := range values {
			var n yaml.Node
			if err := yaml.Unmarshal([]byte(v), &n); err != nil {
				t.Fatal(err)
			}
			change(*n.Content[0], "is "+v)
		}
		if original.Kind == yaml.MappingNode {
			more := original
			more.Content = append(slices.Clone(original.Content), &yaml.Node{Kind: yaml.ScalarNode, Value: "extra"},
				&yaml.Node{Kind: yaml.ScalarNode, Value: "a"})
			change(more, "has an extra field")
			for j := 0; j < len(original.Content); j += 2 {
				less := original
				less.Content = slices.Delete(slices.Clone(original.Content), j, j+2)
				change(less, "lacks "+original.Content[j].Value)
			}
		}
	}
}

// nodesOf lists the values of a document in order.
func nodesOf(n *yaml.Node, all []*yaml.Node) []*yaml.Node {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue
		}
		all = nodesOf(c, append(all, c))
	}
	return all
}
