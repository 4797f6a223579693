package v1alpha1

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/schema/definition"
)

// TestStatusShape compares the status in the custom resource definition with its Go type: the API
// server drops fields that the definition does not have.
func TestStatusShape(t *testing.T) {
	text, err := definition.CRD()
	if err != nil {
		t.Fatal(err)
	}
	type shape struct {
		Properties map[string]*shape
		Items      *shape
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct{ OpenAPIV3Schema shape }
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	status := definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["status"]
	for name, test := range map[string]struct {
		shape *shape
		of    any
	}{
		"status":    {status, PoolStatus{}},
		"brick":     {status.Properties["bricks"].Items, BrickStatus{}},
		"condition": {status.Properties["conditions"].Items, metav1.Condition{}},
	} {
		var fields []string
		for i := range reflect.TypeOf(test.of).NumField() {
			field, _, _ := strings.Cut(reflect.TypeOf(test.of).Field(i).Tag.Get("json"), ",")
			fields = append(fields, field)
		}
		slices.Sort(fields)
		if got := slices.Sorted(maps.Keys(test.shape.Properties)); !slices.Equal(got, fields) {
			t.Errorf("%s: the definition has the fields %v, the Go type %v", name, got, fields)
		}
	}
}
