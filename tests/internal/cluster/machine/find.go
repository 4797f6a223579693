package machine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Find returns the PID, on this host, of the worker of a running machine of a kind whose spec
// is accepted.
func Find(kind string, accept func(spec json.RawMessage) bool) (int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var e envelope
		worker := false
		for v := range bytes.SplitSeq(text, []byte{0}) {
			if s, ok := bytes.CutPrefix(v, []byte(specVariable+"=")); ok {
				_ = json.Unmarshal(s, &e) // an invalid variable is no machine
			}
			worker = worker || string(v) == workerVariable+"=1"
		}
		if worker && e.Kind == kind && accept(e.Spec) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("no machine of kind %s runs", kind)
}
