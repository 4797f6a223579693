package schema

import (
	"fmt"
	"strings"
)

// Position is a place in an input. Line and Column count from 1 and are 0 when
// they are not known.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String gives file:line:column, without the parts that are not known.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Severity tells whether a diagnostic refuses the document.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing that is wrong, or doubtful, in the input.
type Diagnostic struct {
	Position Position `json:"position"`
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`              // stable and short, such as "field-unknown"
	Pool     string   `json:"pool,omitempty"`    // name of the document, where known
	Path     string   `json:"path,omitempty"`    // such as spec.bricks[2].node
	Message  string   `json:"message"`           // what is wrong
	Allowed  string   `json:"allowed,omitempty"` // what is allowed or what to do
}

// String gives "file:line:column: path: what is wrong; what is allowed".
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.Position.String())
	b.WriteString(": ")
	if d.Severity == SeverityWarning {
		b.WriteString("warning: ")
	}
	if d.Path != "" {
		b.WriteString(d.Path)
		b.WriteString(": ")
	}
	b.WriteString(d.Text())
	return b.String()
}

// Text gives "what is wrong; what is allowed".
func (d Diagnostic) Text() string {
	if d.Allowed == "" {
		return d.Message
	}
	return d.Message + "; " + d.Allowed
}
