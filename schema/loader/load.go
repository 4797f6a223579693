// Package loader reads pools and StorageClasses from files, directories, kustomizations
// and standard input, and checks them.
package loader

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/convert"
	"github.com/atoll-storage/atoll/schema/definition"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// Limits of Load.
const (
	maxFileSize = 16 << 20 // bytes of one file or of standard input
	maxNodes    = 100_000  // values of one document after its aliases are replaced
	maxDepth    = 64       // nesting of one document
	maxDirs     = 32       // nesting of directories
)

// Options are the options of Load.
type Options struct {
	// Stdin is read for the path "-".
	Stdin io.Reader
}

// Result has the documents that Load read and what is wrong with them.
type Result struct {
	Documents   []*Document // pools, in the order in which they were read
	Classes     []*ClassDocument
	Diagnostics []schema.Diagnostic // sorted by position
	Others      int                 // documents of other kinds, which are not checked
}

// Document is one pool and its place in the input.
type Document struct {
	Pool   *schema.Pool    // complete if Valid, otherwise as much as could be read
	Source schema.Position // where the document begins
	Kind   string          // as written: StoragePool or KadaluStorage
	Scope  string          // directory of the kustomization that built it, "" for plain files
	Valid  bool            // no error concerns it

	places *place
}

// Position returns the position of a path such as spec.bricks[2].node, or of its nearest
// parent that exists.
func (d *Document) Position(path string) schema.Position { return d.places.at(path) }

// Load reads files (YAML, JSON, CUE), directories with all files below them,
// kustomizations and, for "-", standard input, and checks all pools in them. Problems of
// the input are diagnostics of the result. Load returns an error only for a path that
// does not exist and for a context that ended.
func Load(ctx context.Context, o Options, paths ...string) (*Result, error) {
	l := &load{ctx: ctx, stdin: o.Stdin, result: &Result{}, seen: map[string]bool{}}
	for _, p := range paths {
		if err := l.path(p); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("load documents: %w", err)
	}
	r := l.result
	l.report(checkAll(r.Documents, r.Classes)...)
	broken := map[*Document]bool{}
	for _, d := range l.found {
		r.Diagnostics = append(r.Diagnostics, d.Diagnostic)
		if d.document != nil && d.Severity == schema.SeverityError {
			broken[d.document] = true
		}
	}
	for _, d := range r.Documents {
		d.Valid = !broken[d]
	}
	slices.SortStableFunc(r.Diagnostics, func(a, b schema.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Position.File, b.Position.File), a.Position.Line-b.Position.Line,
			a.Position.Column-b.Position.Column, cmp.Compare(a.Path, b.Path))
	})
	return r, nil
}

// finding is a diagnostic and the pool that it concerns, nil if it concerns none.
type finding struct {
	schema.Diagnostic
	document *Document
}

// load carries one call of Load.
type load struct {
	ctx    context.Context
	stdin  io.Reader
	result *Result
	found  []finding
	seen   map[string]bool // real paths of files and directories that were read
}

func (l *load) report(found ...finding) { l.found = append(l.found, found...) }

// fileError reports an error of a file, as a whole or at one line.
func (l *load) fileError(at schema.Position, code, message, allowed string) {
	l.report(finding{Diagnostic: schema.Diagnostic{
		Position: at, Severity: schema.SeverityError, Code: code,
		Message: message, Allowed: allowed,
	}})
}

// origin is where a document comes from.
type origin struct {
	file  string
	scope string
	// places is the source of the document if that differs from the document itself,
	// because a kustomization changed it.
	places *place
}

func (o origin) placesOf(root *yaml.Node) *place {
	if o.places != nil {
		return o.places
	}
	return &place{file: o.file, root: root}
}

// document adds one parsed document, or the items of a List.
func (l *load) document(root *yaml.Node, from origin) {
	if root == nil || root.Kind != yaml.MappingNode {
		l.result.Others++
		return
	}
	switch version, kind := yamlnode.Scalar(root, "apiVersion"), yamlnode.Scalar(root, "kind"); {
	case isList(version, kind):
		items := yamlnode.Field(root, "items")
		if items == nil || items.Kind != yaml.SequenceNode {
			return
		}
		for _, item := range items.Content {
			l.document(yamlnode.Resolve(item), from)
		}
	case isKadalu(version, kind):
		l.kadaluPool(root, from)
	case isPool(version, kind, root):
		l.pool(root, from)
	case kind == "StorageClass":
		l.class(root, from)
	default:
		l.result.Others++
	}
}

// pool adds a StoragePool document.
func (l *load) pool(root *yaml.Node, from origin) {
	d := &Document{Pool: &schema.Pool{}, Kind: schema.Kind, Scope: from.scope, places: from.placesOf(root)}
	d.Source = d.Position("")
	l.result.Documents = append(l.result.Documents, d)
	// Check reports fields that cannot be decoded; the others are decoded all the same.
	_ = root.Decode(d.Pool)
	for _, p := range definition.Pool().Check(root) {
		at := d.Position(p.Path)
		if d.places.root == root {
			at = schema.Position{File: from.file, Line: p.Node.Line, Column: p.Node.Column}
		}
		f := d.finding(schema.SeverityError, p.Path, p.Code, p.Message, p.Allowed)
		f.Position = at
		l.report(f)
	}
}

// kadaluPool adds a KadaluStorage document. It is converted to a pool and passes the same
// checks; diagnostics use the field names and positions of the document.
func (l *load) kadaluPool(root *yaml.Node, from origin) {
	d := &Document{Pool: &schema.Pool{}, Kind: schema.KadaluKind, Scope: from.scope, places: from.placesOf(root)}
	d.Source = d.Position("")
	l.result.Documents = append(l.result.Documents, d)
	pool, diagnostics := convert.Kadalu(root, d.Position)
	for _, diagnostic := range diagnostics {
		l.report(finding{diagnostic, d})
	}
	d.places.translate = convert.KadaluPath
	if pool == nil {
		d.Pool.Metadata.Name = yamlnode.Scalar(yamlnode.Field(root, "metadata"), "name")
		return
	}
	d.Pool = pool
	var converted yaml.Node
	if err := converted.Encode(pool); err != nil {
		l.fileError(d.Source, "kadalu-shape", "encode the converted pool: "+err.Error(), "")
		return
	}
	for _, p := range definition.Pool().Check(&converted) {
		l.report(d.finding(schema.SeverityError, p.Path, p.Code, p.Message, p.Allowed))
	}
}
