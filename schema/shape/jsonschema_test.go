package shape_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/schema/definition"
)

// TestJSONSchemaAgrees checks that editors accept exactly the documents that the compiled
// tree accepts. The tree also refuses unquoted words such as off, which JSON cannot express.
func TestJSONSchemaAgrees(t *testing.T) {
	compiled := definition.Pool()
	text, err := definition.JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("pool.json", parsed); err != nil {
		t.Fatal(err)
	}
	editor, err := c.Compile("pool.json")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("../../examples/pools/*.yaml")
	documents := 0
	for _, file := range files {
		for text, change := range mutants(t, file) {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
				t.Fatal(err)
			}
			json, err := sigsyaml.YAMLToJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(json))
			if err != nil {
				t.Fatal(err)
			}
			documents++
			problems, editorErr := compiled.Check(doc.Content[0]), editor.Validate(value)
			if (len(problems) == 0) != (editorErr == nil) {
				t.Errorf("%s, %s: the tree reports %v, the JSON schema %v", filepath.Base(file), change, problems,
					editorErr)
			}
		}
	}
	if documents < 1000 {
		t.Errorf("only %d documents", documents)
	}
}
