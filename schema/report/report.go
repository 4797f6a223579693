// Package report writes diagnostics in formats for people, scripts and CI systems.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/schema"
)

// Formats are the formats that Write accepts.
var Formats = []string{"text", "json", "yaml", "sarif", "github"}

// Summary is the result of a check.
type Summary struct {
	Documents   int                 `json:"documents"`
	Errors      int                 `json:"errors"`
	Warnings    int                 `json:"warnings"`
	Diagnostics []schema.Diagnostic `json:"diagnostics"`
}

// Summarize counts documents, errors and warnings.
func Summarize(documents int, diagnostics []schema.Diagnostic) Summary {
	s := Summary{Documents: documents, Diagnostics: slices.Clone(diagnostics)}
	if s.Diagnostics == nil {
		s.Diagnostics = []schema.Diagnostic{}
	}
	for _, d := range diagnostics {
		if d.Severity == schema.SeverityError {
			s.Errors++
		} else {
			s.Warnings++
		}
	}
	return s
}

// Write writes the summary in one of Formats.
func Write(w io.Writer, format string, s Summary) error {
	switch format {
	case "text":
		return writeText(w, s)
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(s)
	case "yaml":
		out, err := yaml.Marshal(s)
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	case "sarif":
		return writeSARIF(w, s)
	case "github":
		return writeGitHub(w, s)
	}
	return fmt.Errorf("unknown output format %q; allowed are %s", format, strings.Join(Formats, ", "))
}

func writeText(w io.Writer, s Summary) error {
	for _, d := range s.Diagnostics {
		if _, err := fmt.Fprintln(w, d); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s, %s, %s\n", count(s.Documents, "pool"), count(s.Errors, "error"),
		count(s.Warnings, "warning"))
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// writeGitHub prints workflow commands, which annotate the lines of a change:
// ::error file=…,line=…,col=…,title=…::message. It escapes as the toolkit of GitHub's
// runner does.
func writeGitHub(w io.Writer, s Summary) error {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, d := range s.Diagnostics {
		position := "file=" + property.Replace(filepath.ToSlash(d.Position.File))
		if d.Position.Line > 0 {
			position += fmt.Sprintf(",line=%d,col=%d", d.Position.Line, d.Position.Column)
		}
		title := property.Replace("atoll " + d.Code)
		if _, err := fmt.Fprintf(w, "::%s %s,title=%s::%s\n", d.Severity, position, title,
			data.Replace(message(d))); err != nil {
			return err
		}
	}
	return nil
}

// message returns a diagnostic without its position.
func message(d schema.Diagnostic) string {
	if d.Path == "" {
		return d.Text()
	}
	return d.Path + ": " + d.Text()
}
