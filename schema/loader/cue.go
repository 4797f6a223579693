package loader

import (
	"fmt"
	"path/filepath"
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
)

// cuePackages reads the CUE files of one directory: the files of a package together, and
// each file without a package clause separately.
func (l *load) cuePackages(files []string) {
	packages := map[string]map[string][]byte{}
	var order []string
	for _, p := range files {
		if l.ctx.Err() != nil || l.alreadyRead(p) {
			continue
		}
		data, ok := l.open(p)
		if !ok {
			continue
		}
		key := p
		if f, err := parser.ParseFile(p, data, parser.PackageClauseOnly); err == nil && f.PackageName() != "" {
			key = "package " + f.PackageName()
		}
		if packages[key] == nil {
			packages[key] = map[string][]byte{}
			order = append(order, key)
		}
		packages[key][p] = data
	}
	for _, key := range order {
		l.cueFiles(packages[key])
	}
}

// cueFiles evaluates files as one package and adds the documents in it: every concrete
// value with apiVersion or kind. Files may import only CUE's standard library.
func (l *load) cueFiles(files map[string][]byte) {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	instance := build.NewContext().NewInstance(filepath.Dir(names[0]), nil)
	for _, name := range names {
		f, err := parser.ParseFile(name, files[name], parser.ParseComments)
		if err != nil {
			l.cueErrors(name, err)
			return
		}
		f.Filename = name
		if err := instance.AddSyntax(f); err != nil {
			l.cueErrors(name, err)
			return
		}
	}
	if err := instance.Complete(); err != nil {
		l.cueErrors(names[0], err)
		return
	}
	defer func() { // bad input must not end the program
		if p := recover(); p != nil {
			l.fileError(schema.Position{File: names[0]}, "syntax", fmt.Sprintf("CUE panicked: %v", p), cueAdvice)
		}
	}()
	c := &cueReader{load: l, file: names[0]}
	c.find(cuecontext.New().BuildInstance(instance), 0)
}

const cueAdvice = "run 'cue vet' for details"

// cueErrors reports every error of an evaluation, at the first of its positions.
func (l *load) cueErrors(file string, err error) {
	for _, e := range errors.Errors(errors.Sanitize(errors.Promote(err, ""))) {
		at := schema.Position{File: file}
		if p := cuePosition(e); p.IsValid() {
			at = schema.Position{File: p.Filename(), Line: p.Line(), Column: p.Column()}
		}
		format, args := e.Msg()
		l.fileError(at, "syntax", "invalid CUE: "+fmt.Sprintf(format, args...), cueAdvice)
	}
}

func cuePosition(e errors.Error) token.Pos {
	for _, p := range errors.Positions(e) {
		if p.IsValid() && p.Filename() != "" {
			return p
		}
	}
	return token.NoPos
}

type cueReader struct {
	load  *load
	file  string
	nodes normalizer
}

// find looks for documents in a value and in the values below it.
func (c *cueReader) find(v cue.Value, depth int) {
	if depth > maxDepth {
		return
	}
	v, _ = v.Default()
	if err := v.Err(); err != nil {
		c.load.cueErrors(c.file, err)
		return
	}
	switch v.IncompleteKind() {
	case cue.StructKind:
		if v.LookupPath(cue.ParsePath("kind")).Exists() || v.LookupPath(cue.ParsePath("apiVersion")).Exists() {
			c.document(v)
			return
		}
		if fields, err := v.Fields(); err == nil {
			for fields.Next() {
				c.find(fields.Value(), depth+1)
			}
		}
	case cue.ListKind:
		if items, err := v.List(); err == nil {
			for items.Next() {
				c.find(items.Value(), depth+1)
			}
		}
	}
}

// document adds a concrete value as a document.
func (c *cueReader) document(v cue.Value) {
	if err := v.Validate(cue.Concrete(true), cue.Final()); err != nil {
		c.load.cueErrors(c.file, err)
		return
	}
	c.nodes = normalizer{}
	n, err := c.node(v, 0)
	if err != nil {
		c.load.fileError(schema.Position{File: c.file, Line: v.Pos().Line(), Column: v.Pos().Column()}, "limit",
			err.Error(), limitAdvice)
		return
	}
	file := c.file
	if p := v.Pos(); p.IsValid() && p.Filename() != "" {
		file = p.Filename()
	}
	c.load.document(n, origin{file: file})
}

// node copies a concrete value with its positions.
func (c *cueReader) node(v cue.Value, depth int) (*yaml.Node, error) {
	v, _ = v.Default()
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: v.Pos().Line(), Column: v.Pos().Column()}
	if err := c.nodes.count(n, depth); err != nil {
		return nil, err
	}
	switch v.Kind() {
	case cue.StructKind:
		return n, c.fields(n, v, depth)
	case cue.ListKind:
		return n, c.items(n, v, depth)
	case cue.StringKind:
		text, err := v.String()
		n.Tag, n.Value, n.Style = "!!str", text, yaml.DoubleQuotedStyle
		return n, err
	}
	literal, _ := v.Syntax(cue.Final()).(*ast.BasicLit)
	if literal == nil {
		return nil, fmt.Errorf("the value at %s is not concrete data", v.Path())
	}
	n.Tag, n.Value = map[cue.Kind]string{
		cue.IntKind: "!!int", cue.FloatKind: "!!float", cue.BoolKind: "!!bool",
		cue.NullKind: "!!null",
	}[v.Kind()], literal.Value
	return n, nil
}

func (c *cueReader) fields(n *yaml.Node, v cue.Value, depth int) error {
	n.Kind, n.Tag = yaml.MappingNode, "!!map"
	fields, err := v.Fields()
	if err != nil {
		return err
	}
	for fields.Next() {
		at := fields.Value().Pos()
		key := &yaml.Node{
			Kind: yaml.ScalarNode, Tag: "!!str", Value: fields.Selector().Unquoted(), Line: at.Line(),
			Column: at.Column(),
		}
		value, err := c.node(fields.Value(), depth+1)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, key, value)
	}
	return nil
}

func (c *cueReader) items(n *yaml.Node, v cue.Value, depth int) error {
	n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	items, err := v.List()
	if err != nil {
		return err
	}
	for items.Next() {
		item, err := c.node(items.Value(), depth+1)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, item)
	}
	return nil
}
