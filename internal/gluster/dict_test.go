package gluster

import (
	"maps"
	"testing"
)

func TestDictionary(t *testing.T) {
	values, err := ParseDictionary(dictionary("a", "1", "status", "3", "empty", ""))
	if err != nil || !maps.Equal(values, map[string]string{"a": "1", "status": "3", "empty": ""}) {
		t.Errorf("%v, %v", values, err)
	}
	if values, err := ParseDictionary(nil); err != nil || len(values) != 0 {
		t.Errorf("nothing: %v, %v", values, err)
	}
}

// FuzzDictionary: received data is not trusted.
func FuzzDictionary(f *testing.F) {
	f.Add(dictionary("a", "1"))
	f.Add([]byte{0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 1})
	f.Fuzz(func(_ *testing.T, data []byte) {
		values, err := ParseDictionary(data)
		if err == nil {
			ParseProgress(values)
		}
	})
}
