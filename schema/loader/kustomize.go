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

// kustomizationNames are the file names that kustomize accepts for a kustomization.
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

// kustomization builds the kustomization of a directory and reports whether there is one.
// Components are not built: the kustomizations that include them build them.
func (l *load) kustomization(dir string, entries []os.DirEntry) bool {
	if !slices.ContainsFunc(entries,
		func(e os.DirEntry) bool { return slices.Contains(kustomizationNames, e.Name()) }) {
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

// buildLock allows one build at a time, because kustomize has global state.
var buildLock sync.Mutex

// build runs kustomize and adds the documents of its result.
func (l *load) build(dir, file string) {
	resources, err := krustyBuild(dir)
	if err != nil {
		l.fileError(schema.Position{File: file, Line: 1, Column: 1}, "kustomize",
			"the kustomization does not build: "+oneLine(err.Error()), "run 'kustomize build "+dir+"' for details")
		return
	}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			l.fileError(schema.Position{File: file, Line: 1, Column: 1}, "kustomize",
				"encode a built resource: "+err.Error(),
				"")
			continue
		}
		root, err := parseYAML(chunk{text: text})
		if err != nil {
			l.syntaxError(file, chunk{}, err)
			continue
		}
		l.document(withoutOrigin(root), origin{file: file, scope: dir, places: source(r, dir, file)})
	}
}

// krustyBuild runs kustomize and returns a panic as an error: bad input must not end the
// program.
func krustyBuild(dir string) (result resmap.ResMap, err error) {
	buildLock.Lock()
	defer buildLock.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kustomize panicked: %v", p)
		}
	}()
	return krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(originFS{filesys.MakeFsOnDisk()}, dir)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// originAnnotation is the annotation in which kustomize names the source file of a resource.
const originAnnotation = "config.kubernetes.io/origin"

// originFS requests that annotation in every kustomization that is read.
type originFS struct{ filesys.FileSystem }

// ReadFile reads a file within the limit. To a kustomization it adds the request for origin
// annotations.
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
	if isComponent(data) || yamlnode.Field(root, "buildMetadata") != nil &&
		strings.Contains(scalarList(yamlnode.Field(root, "buildMetadata")), "originAnnotations") {
		return data, nil
	}
	request := &yaml.Node{Kind: yaml.ScalarNode, Value: "originAnnotations"}
	if list := yamlnode.Field(root, "buildMetadata"); list != nil {
		list.Content = append(list.Content, request)
	} else {
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "buildMetadata"},
			&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{request}})
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

// withoutOrigin removes the origin annotation.
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

// source finds the document from which a resource was built, so that diagnostics can point
// there. If it is not found they point to the kustomization.
func source(r *resource.Resource, dir, kustomization string) *place {
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
