package report

import (
	"encoding/json"
	"io"
	"path/filepath"
	"slices"

	"github.com/atoll-storage/atoll/schema"
)

// The part of SARIF 2.1.0 (OASIS standard, March 2020) that code scanning reads.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name  string      `json:"name"`
		Rules []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID string `json:"id"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     schema.Severity `json:"level"` // SARIF has the same names
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region *sarifRegion `json:"region,omitempty"`
		} `json:"physicalLocation"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
)

func writeSARIF(w io.Writer, s Summary) error {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "atoll", Rules: []sarifRule{}}
	for _, d := range s.Diagnostics {
		rule := sarifRule{ID: d.Code}
		if !slices.Contains(run.Tool.Driver.Rules, rule) {
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
		}
		var at sarifLocation
		at.Physical.Artifact.URI = filepath.ToSlash(d.Position.File)
		if d.Position.Line > 0 {
			at.Physical.Region = &sarifRegion{StartLine: d.Position.Line, StartColumn: d.Position.Column}
		}
		run.Results = append(run.Results, sarifResult{
			RuleID: d.Code, Level: d.Severity, Message: sarifText{message(d)}, Locations: []sarifLocation{at},
		})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(sarifLog{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	})
}
