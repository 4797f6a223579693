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

// TestAgreesWithCUE changes every value of every example in every way, and holds
// that the compiled tree accepts exactly the documents that CUE accepts.
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
		for text, what := range mutants(t, file) {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
				t.Fatal(err)
			}
			problems := compiled.Check(doc.Content[0])
			ast, err := cueyaml.Extract("f", text)
			if err != nil {
				t.Fatal(err)
			}
			theirs := pool.Unify(ctx.BuildFile(ast)).Validate(cue.Concrete(true), cue.Final())
			documents++
			if theirs != nil {
				refused++
			}
			if (len(problems) == 0) != (theirs == nil) {
				t.Errorf("%s, %s: we say %v, CUE says %v", filepath.Base(file), what, problems, theirs)
			}
		}
	}
	t.Logf("%d documents, %d refused by both", documents, refused)
	if documents < 1000 || refused == 0 || refused == documents {
		t.Error("the comparison compares too little")
	}
}

// values replace what a document has.
var values = []string{`""`, `zzz`, `"on"`, `"10"`, `5`, `0`, `-1`, `99999`, `1.5`, `true`, `{}`, `{node: a}`, `{pvc: a}`, `[]`, `[a]`, `[{}]`, `Replica1`, `External`, `Single`, `/dev/sdz`}

// mutants yields the document as it is, and changed at one place.
func mutants(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{string(text): "as it is"}
	for i := 0; ; i++ {
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		nodes := nodesOf(&doc, nil)
		if i == len(nodes) {
			return all
		}
		at := nodes[i]
		original := *at.node
		change := func(n yaml.Node, what string) {
			*at.node = n
			out, err := yaml.Marshal(&doc)
			if err != nil {
				t.Fatal(err)
			}
			all[string(out)] = fmt.Sprintf("line %d %s", original.Line, what)
			*at.node = original
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
			more.Content = append(slices.Clone(original.Content), &yaml.Node{Kind: yaml.ScalarNode, Value: "extra"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "a"})
			change(more, "has a field more")
			for j := 0; j < len(original.Content); j += 2 {
				less := original
				less.Content = slices.Delete(slices.Clone(original.Content), j, j+2)
				change(less, "has no "+original.Content[j].Value)
			}
		}
	}
}

type spot struct{ node *yaml.Node }

// nodesOf lists the values of a document, in order.
func nodesOf(n *yaml.Node, all []spot) []spot {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue
		}
		all = nodesOf(c, append(all, spot{c}))
	}
	return all
}
