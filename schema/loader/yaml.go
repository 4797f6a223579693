package loader

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// yamlFile adds all documents of a YAML stream. It reports a document that does not parse
// and continues with the next.
func (l *load) yamlFile(data []byte, from origin) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at, problem := badByte(data); problem != "" {
		at.File = from.file
		l.fileError(at, "encoding", problem, "UTF-8 text")
		return
	}
	for _, c := range splitYAML(data) {
		root, err := parseYAML(c)
		if err != nil {
			l.syntaxError(from.file, c, err)
			continue
		}
		if root != nil {
			l.document(root, from)
		}
	}
}

// chunk is one document of a stream; line is the number of its first line, counted from 0.
type chunk struct {
	text []byte
	line int
}

// splitYAML splits a stream at its document markers. A marker at the beginning of a line
// ends the document, even within a block scalar.
func splitYAML(data []byte) []chunk {
	var chunks []chunk
	start, startLine, line := 0, 0, 0
	add := func(end int) {
		if c := data[start:end]; !isBlank(c) {
			chunks = append(chunks, chunk{c, startLine})
		}
	}
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		switch marker := data[at:end]; {
		case isMarker(marker, "---"):
			add(at)
			// Spaces keep the column of text after the marker.
			data[at], data[at+1], data[at+2] = ' ', ' ', ' '
			start, startLine = at, line
		case isMarker(marker, "..."):
			add(at)
			start, startLine = end, line+1
		}
		at = end
	}
	add(len(data))
	return chunks
}

func isMarker(line []byte, marker string) bool {
	rest, found := bytes.CutPrefix(line, []byte(marker))
	return found && (len(rest) == 0 || strings.ContainsRune(" \t\r\n", rune(rest[0])))
}

// isBlank reports whether a document has only comments and directives.
func isBlank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// badByte finds the first byte that is not text and describes the problem.
func badByte(data []byte) (at schema.Position, problem string) {
	if len(data) >= 2 && (data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff) {
		return schema.Position{Line: 1, Column: 1}, "the file is UTF-16"
	}
	for i := 0; i < len(data); {
		r, size := rune(data[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(data[i:])
		}
		switch {
		case r == utf8.RuneError && size == 1:
			problem = fmt.Sprintf("the byte %#x is not UTF-8", data[i])
		case r < ' ' && r != '\n' && r != '\t' && r != '\r', r == 0x7f:
			problem = fmt.Sprintf("the file contains the control character %#x", r)
		}
		if problem != "" {
			line := bytes.LastIndexByte(data[:i], '\n')
			return schema.Position{
				Line:   1 + bytes.Count(data[:i], []byte("\n")),
				Column: 1 + utf8.RuneCount(data[line+1:i]),
			}, problem
		}
		i += size
	}
	return schema.Position{}, ""
}

// errTooBig is returned for a document with too many values or nested too deeply.
var errTooBig = errors.New("the document is too big")

// limitAdvice is the advice for a document that is too big.
const limitAdvice = "a pool needs a few dozen values"

// parseYAML parses one document, expands its aliases and merge keys, and counts lines from
// the beginning of the stream.
func parseYAML(c chunk) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(c.text, &doc); err != nil {
		return nil, err
	}
	root := yamlnode.Resolve(&doc)
	if root == nil {
		return nil, nil
	}
	n := normalizer{lines: c.line}
	if err := n.measure(root, 0); err != nil {
		return nil, err
	}
	if !n.aliases {
		return root, nil
	}
	n.nodes = 0
	return n.expand(root, 0)
}

// normalizer checks the limits of one document and expands its aliases.
type normalizer struct {
	lines   int // before the document
	nodes   int // counted so far
	aliases bool
}

// count counts a node and checks the limits.
func (n *normalizer) count(at *yaml.Node, depth int) error {
	n.nodes++
	if depth > maxDepth {
		return fmt.Errorf("line %d: %w: nested deeper than %d", at.Line, errTooBig, maxDepth)
	}
	if n.nodes > maxNodes {
		return fmt.Errorf("line %d: %w: more than %d values", at.Line, errTooBig, maxNodes)
	}
	return nil
}

// measure enforces limits, offsets line numbers and notes whether there are aliases.
func (n *normalizer) measure(at *yaml.Node, depth int) error {
	at.Line += n.lines
	if err := n.count(at, depth); err != nil {
		return err
	}
	if at.Kind == yaml.AliasNode || at.Tag == "!!merge" {
		n.aliases = true
	}
	for _, c := range at.Content {
		if err := n.measure(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// expand copies a tree and replaces its aliases and merge keys.
func (n *normalizer) expand(at *yaml.Node, depth int) (*yaml.Node, error) {
	if err := n.count(at, depth); err != nil {
		return nil, err
	}
	if at.Kind == yaml.AliasNode {
		return n.expand(at.Alias, depth+1)
	}
	c := *at
	c.Anchor, c.Content = "", nil
	var merged []*yaml.Node
	for i, item := range at.Content {
		if at.Kind == yaml.MappingNode && at.Content[i&^1].Tag == "!!merge" {
			if i%2 == 1 {
				merged = append(merged, item)
			}
			continue
		}
		e, err := n.expand(item, depth+1)
		if err != nil {
			return nil, err
		}
		c.Content = append(c.Content, e)
	}
	for _, m := range merged {
		if err := n.merge(&c, m, depth); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

// merge adds to a mapping the fields of another mapping, or of a list of mappings, except
// those that it already has.
func (n *normalizer) merge(into, from *yaml.Node, depth int) error {
	e, err := n.expand(from, depth+1)
	if err != nil {
		return err
	}
	sources := []*yaml.Node{e}
	if e.Kind == yaml.SequenceNode {
		sources = e.Content
	}
	for _, s := range sources {
		if s.Kind != yaml.MappingNode {
			return fmt.Errorf("line %d: only mappings can be merged", s.Line)
		}
		for i := 0; i+1 < len(s.Content); i += 2 {
			if yamlnode.Field(into, s.Content[i].Value) == nil {
				into.Content = append(into.Content, s.Content[i], s.Content[i+1])
			}
		}
	}
	return nil
}

// parserError matches the library's parser errors, which count lines from 0. Its scanner
// errors count from 1.
var parserError = regexp.MustCompile(`^did not find expected ` +
	`(node content|key|'-' indicator|',' or '[\]}]'|<document start>|<stream-start>)`)

var errorLine = regexp.MustCompile(`^(?:yaml: )?line ([0-9]+): (.*)`)

// syntaxError reports a document that cannot be parsed, at the line that the error names.
// Lines of normalizer's errors already count from the beginning of the stream.
func (l *load) syntaxError(file string, c chunk, err error) {
	at := schema.Position{File: file, Line: c.line + 1, Column: 1}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := errorLine.FindStringSubmatch(err.Error()); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		message = m[2]
		if strings.HasPrefix(err.Error(), "yaml: ") {
			at.Line += c.line
			if parserError.MatchString(message) {
				at.Line++
			}
		}
	}
	if errors.Is(err, errTooBig) {
		l.fileError(at, "limit", message, limitAdvice)
		return
	}
	l.fileError(at, "syntax", "invalid YAML: "+message, "check this line and the one before it")
}
