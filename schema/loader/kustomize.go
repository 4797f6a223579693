package loader

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// kustomizationNames are the names of a kustomization's file that kustomize knows.
var kustomizationNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

func hasKustomization(dir string) bool {
	return kustomizationFile(dir) != ""
}

func kustomizationFile(dir string) string {
	for _, name := range kustomizationNames {
		p := filepath.Join(dir, name)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p
		}
	}
	return ""
}

// kustomization builds a folder that has one and reports whether it has.
// Components are no kustomizations of their own: what includes them builds them.
func (l *load) kustomization(dir string, entries []os.DirEntry) bool {
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return slices.Contains(kustomizationNames, e.Name()) }) {
		return false
	}
	p := kustomizationFile(dir)
	if p == "" {
		return false
	}
	if data, ok := l.open(p); ok && !isComponent(data) {
		if !l.refuseRemote(dir, map[string]bool{}) {
			return true
		}
		l.build(dir, p)
	}
	return true
}

func isComponent(data []byte) bool {
	var head struct {
		Kind string `yaml:"kind"`
	}
	return yaml.Unmarshal(data, &head) == nil && head.Kind == "Component"
}

// buildLock: kustomize keeps global state, so one build at a time.
var buildLock sync.Mutex

// build runs kustomize and takes the documents of its result.
func (l *load) build(dir, file string) {
	resources, err := krustyBuild(dir)
	if err != nil {
		l.fileError(schema.Position{File: file, Line: 1, Column: 1}, "kustomize", "the kustomization does not build: "+oneLine(err.Error()), "see 'kustomize build "+dir+"'")
		return
	}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			l.fileError(schema.Position{File: file, Line: 1, Column: 1}, "kustomize", "a result cannot be written: "+err.Error(), "")
			continue
		}
		root, err := parseYAML(chunk{text: text})
		if err != nil {
			l.syntaxError(file, chunk{}, err)
			continue
		}
		l.document(withoutOrigin(root), origin{file: file, scope: dir, places: l.written(r, dir, file)})
	}
}

// krustyBuild never lets a panic of the library through: what it was given is input.
func krustyBuild(dir string) (result resmap.ResMap, err error) {
	buildLock.Lock()
	defer buildLock.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kustomize gave up: %v", p)
		}
	}()
	return krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(originFS{filesys.MakeFsOnDisk()}, dir)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// originAnnotation is where kustomize says which file a resource came from.
const originAnnotation = "config.kubernetes.io/origin"

// originFS asks for that annotation in every kustomization that is read.
type originFS struct{ filesys.FileSystem }

// ReadFile reads a file within the limit; to a kustomization it adds the wish for annotations.
func (fs originFS) ReadFile(name string) ([]byte, error) {
	data, err := readFile(name)
	if err != nil || !slices.Contains(kustomizationNames, filepath.Base(name)) {
		return data, err
	}
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return data, nil
	}
	root := doc.Content[0]
	if isComponent(data) || yamlnode.Field(root, "buildMetadata") != nil && strings.Contains(scalarList(yamlnode.Field(root, "buildMetadata")), "originAnnotations") {
		return data, nil
	}
	wish := &yaml.Node{Kind: yaml.ScalarNode, Value: "originAnnotations"}
	if list := yamlnode.Field(root, "buildMetadata"); list != nil {
		list.Content = append(list.Content, wish)
	} else {
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "buildMetadata"},
			&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{wish}})
	}
	if changed, err := yaml.Marshal(&doc); err == nil {
		return changed, nil
	}
	return data, nil
}

func scalarList(n *yaml.Node) string {
	var all []string
	for _, c := range n.Content {
		all = append(all, c.Value)
	}
	return strings.Join(all, " ")
}

// withoutOrigin removes the annotation again.
func withoutOrigin(root *yaml.Node) *yaml.Node {
	metadata := yamlnode.Field(root, "metadata")
	annotations := yamlnode.Field(metadata, "annotations")
	if annotations == nil || annotations.Kind != yaml.MappingNode {
		return root
	}
	removeField(annotations, originAnnotation)
	if len(annotations.Content) == 0 {
		removeField(metadata, "annotations")
	}
	return root
}

func removeField(n *yaml.Node, name string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}

// written finds the document that a resource came from, as a person wrote it, so
// that diagnostics point there; without it they point to the kustomization.
func (l *load) written(r *resource.Resource, dir, kustomization string) *place {
	fallback := &place{file: kustomization, root: &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}}
	from, err := r.GetOrigin()
	if err != nil || from == nil || from.Repo != "" || from.Path == "" {
		return fallback
	}
	file := filepath.Join(dir, from.Path)
	data, err := readFile(file)
	if err != nil {
		return fallback
	}
	var same []*yaml.Node
	for _, c := range splitYAML(data) {
		root, err := parseYAML(c)
		if err != nil || root == nil || yamlnode.Scalar(root, "kind") != r.GetKind() {
			continue
		}
		if yamlnode.Scalar(yamlnode.Field(root, "metadata"), "name") == r.OrgId().Name {
			return &place{file: file, root: root}
		}
		same = append(same, root)
	}
	if len(same) == 1 {
		return &place{file: file, root: same[0]}
	}
	return &place{file: file, root: fallback.root}
}
