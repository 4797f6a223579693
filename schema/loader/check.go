package loader

import (
	"cmp"
	"slices"

	"github.com/atoll-storage/atoll/schema"
)

// checkAll runs the checks that span several fields of a pool or several documents.
// Documents of different kustomizations need not end up in the same cluster, so the
// documents of each kustomization are checked separately.
func checkAll(documents []*Document, classes []*ClassDocument) []finding {
	var all []finding
	for _, d := range documents {
		c := &checker{document: d}
		c.pool()
		all = append(all, c.found...)
	}
	scopes := map[string]*scope{}
	scopeOf := func(name string) *scope {
		if scopes[name] == nil {
			scopes[name] = &scope{}
		}
		return scopes[name]
	}
	for _, d := range documents {
		s := scopeOf(d.Scope)
		s.documents = append(s.documents, d)
	}
	for _, c := range classes {
		s := scopeOf(c.Scope)
		s.classes = append(s.classes, c)
	}
	names := make([]string, 0, len(scopes))
	for name := range scopes {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare)
	for _, name := range names {
		all = append(all, scopes[name].check()...)
	}
	return all
}

// checker checks one pool.
type checker struct {
	document *Document
	found    []finding
}

func (c *checker) fail(path, code, message, allowed string) {
	c.found = append(c.found, c.document.finding(schema.SeverityError, path, code, message, allowed))
}

func (c *checker) warn(path, code, message, allowed string) {
	c.found = append(c.found, c.document.finding(schema.SeverityWarning, path, code, message, allowed))
}

// finding returns a finding about a path of the pool. Its diagnostic names the path as the
// document does, which may be a KadaluStorage.
func (d *Document) finding(s schema.Severity, path, code, message, allowed string) finding {
	if d.Scope != "" {
		message += " (as built in " + d.Scope + ")"
	}
	written := path
	if d.places.translate != nil {
		written = d.places.translate(path)
	}
	return finding{schema.Diagnostic{
		Position: d.Position(path), Severity: s, Code: code, Pool: d.Pool.Metadata.Name,
		Path: written, Message: message, Allowed: allowed,
	}, d}
}
