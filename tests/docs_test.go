package tests

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// TestYAMLOfDocs: readers copy what is in the pages.
func TestYAMLOfDocs(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	block := regexp.MustCompile("(?s)```ya?ml\n(.*?)```")
	n := 0
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range block.FindAllSubmatch(text, -1) {
			n++
			d := yaml.NewDecoder(bytes.NewReader(found[1]))
			for err = nil; err == nil; {
				var document any
				err = d.Decode(&document)
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v in:\n%s", page, err, found[1])
			}
		}
	}
	if n == 0 {
		t.Error("no page has YAML")
	}
}
