package schema

import (
	"fmt"
	"strings"
)

// Position is a position in an input. Line and Column count from 1 and are 0 if unknown.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns file:line:column, or the file if the line is unknown.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Severity decides whether a diagnostic makes the document invalid.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one error or warning about the input.
type Diagnostic struct {
	Position Position `json:"position"`
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`              // stable and short, such as "field-unknown"
	Pool     string   `json:"pool,omitempty"`    // name of the document, if known
	Path     string   `json:"path,omitempty"`    // such as spec.bricks[2].node
	Message  string   `json:"message"`           // what is wrong
	Allowed  string   `json:"allowed,omitempty"` // what is allowed or what to do
}

// String returns "file:line:column: path: what is wrong; what is allowed".
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

// Text returns "what is wrong; what is allowed".
func (d Diagnostic) Text() string {
	if d.Allowed == "" {
		return d.Message
	}
	return d.Message + "; " + d.Allowed
}
