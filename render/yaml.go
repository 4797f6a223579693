package render

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v2"
)

// YAML encodes objects as one stream of documents, without status and null fields.
func YAML(objects []Object) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		fields, err := Fields(o)
		if err != nil {
			return nil, err
		}
		text, err := yaml.Marshal(fields) // the version that kubectl and kustomize use for output
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// Fields returns an object as it is sent to an API server, as maps, lists and scalars,
// without status.
func Fields(o Object) (map[string]any, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // keeps the spelling of numbers
	if err := d.Decode(&fields); err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	delete(fields, "status")
	return withoutNull(fields).(map[string]any), nil
}

// withoutNull drops null fields, which some API types write for empty times.
func withoutNull(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if value == nil {
				delete(v, name)
				continue
			}
			v[name] = withoutNull(value)
		}
	case []any:
		for i := range v {
			v[i] = withoutNull(v[i])
		}
	}
	return v
}
