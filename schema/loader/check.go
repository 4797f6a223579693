package loader

import (
	"cmp"
	"slices"

	"github.com/atoll-storage/atoll/schema"
)

// checkAll finds what no single field shows: what the parts of a pool are to each
// other, and what pools of one repository are to each other. Documents of
// different kustomizations never meet in a cluster by themselves, so each
// kustomization is held by itself.
func checkAll(documents []*Document, classes []*ClassDocument) []finding {
	var all []finding
	for _, d := range documents {
		c := &checker{document: d}
		c.pool()
		all = append(all, c.found...)
	}
	scopes := map[string]*scope{}
	of := func(name string) *scope {
		if scopes[name] == nil {
			scopes[name] = &scope{}
		}
		return scopes[name]
	}
	for _, d := range documents {
		s := of(d.Scope)
		s.documents = append(s.documents, d)
	}
	for _, c := range classes {
		s := of(c.Scope)
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

// checker holds one pool to the rules.
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

// finding says something about a path of the pool, in the words of its document.
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
