package apply

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/atoll-storage/atoll/render"
)

func references(objects []*unstructured.Unstructured) []Reference {
	var all []Reference
	for _, o := range objects {
		all = append(all, referenceTo(o))
	}
	return all
}

func convertAll(objects []render.Object) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, o := range objects {
		u, err := convert(o)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// convert returns an object as it is sent: without the fields that only a cluster sets.
func convert(o render.Object) (*unstructured.Unstructured, error) {
	fields, err := render.Fields(o)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil { // it decodes whole numbers as integers
		return nil, fmt.Errorf("convert object %s: %w", o.GetName(), err)
	}
	return u, nil
}
