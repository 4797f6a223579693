package render

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v2"
)

// YAML writes objects as one stream of documents, without status and without
// fields that say nothing.
func YAML(objects []Object) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		fields, err := Fields(o)
		if err != nil {
			return nil, err
		}
		text, err := yaml.Marshal(fields) // version 2, which kubectl and kustomize print with
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", o.GetName(), err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// Fields gives an object as it is sent to an API server: plain maps, lists and
// values, without status.
func Fields(o Object) (map[string]any, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", o.GetName(), err)
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // as they are written, not as floating point
	if err := d.Decode(&fields); err != nil {
		return nil, fmt.Errorf("writing %s: %w", o.GetName(), err)
	}
	delete(fields, "status")
	return withoutNull(fields).(map[string]any), nil
}

// withoutNull drops fields without a value, which old clients write for times.
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
