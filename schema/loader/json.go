package loader

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
)

// jsonFile adds the documents of a JSON file, one after another.
func (l *load) jsonFile(data []byte, from origin) {
	if at, problem := badByte(data); problem != "" {
		at.File = from.file
		l.fileError(at, "encoding", problem, "UTF-8 text")
		return
	}
	r := &jsonReader{data: data, decoder: json.NewDecoder(bytes.NewReader(data))}
	r.decoder.UseNumber()
	for {
		r.nodes = normalizer{}
		root, err := r.value(0)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			at := schema.Position{File: from.file}
			at.Line, at.Column = r.position(r.next())
			if errors.Is(err, errTooBig) {
				l.fileError(at, "limit", err.Error(), limitAdvice)
			} else {
				l.fileError(at, "syntax", "invalid JSON: "+err.Error(), "check this line and the one before it")
			}
			return
		}
		l.document(root, from)
	}
}

// jsonReader turns JSON into YAML nodes, which know their lines.
type jsonReader struct {
	data    []byte
	decoder *json.Decoder
	nodes   normalizer
	// The line of the last position, so that lines are counted only once.
	line, lineStart int
}

// next returns the offset at which the next token begins.
func (r *jsonReader) next() int {
	start := int(r.decoder.InputOffset())
	for start < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[start]) >= 0 {
		start++
	}
	return start
}

// position returns line and column of an offset. It is fast for growing offsets.
func (r *jsonReader) position(offset int) (line, column int) {
	offset = min(offset, len(r.data))
	if offset < r.lineStart {
		r.line, r.lineStart = 0, 0
	}
	for {
		i := bytes.IndexByte(r.data[r.lineStart:offset], '\n')
		if i < 0 {
			break
		}
		r.line++
		r.lineStart += i + 1
	}
	return r.line + 1, 1 + utf8.RuneCount(r.data[r.lineStart:offset])
}

// token reads the next token and returns a node with its position.
func (r *jsonReader) token() (json.Token, *yaml.Node, error) {
	start := r.next()
	t, err := r.decoder.Token()
	if err != nil {
		return nil, nil, err
	}
	n := &yaml.Node{}
	n.Line, n.Column = r.position(start)
	return t, n, nil
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	t, n, err := r.token()
	if err != nil {
		return nil, err
	}
	if err := r.nodes.count(n, depth); err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		return n, r.fill(n, t, depth)
	case string:
		n.Kind, n.Tag, n.Value, n.Style = yaml.ScalarNode, "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!bool", fmt.Sprint(t)
	default:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!null", "null"
	}
	return n, nil
}

// fill reads the content of an object or array, up to its closing bracket.
func (r *jsonReader) fill(n *yaml.Node, opening json.Delim, depth int) error {
	n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	if opening == '{' {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for r.decoder.More() {
		c, err := r.value(depth + 1)
		if err != nil {
			return atEnd(err)
		}
		n.Content = append(n.Content, c)
	}
	_, err := r.decoder.Token()
	return atEnd(err)
}

// atEnd turns the end of the file within a value into an unexpected end.
func atEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
