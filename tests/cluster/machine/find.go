package machine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Find gives the process number, on this host, of the worker of a machine that runs: one
// whose spec is accepted.
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
			if s, ok := bytes.CutPrefix(v, []byte(variable+"=")); ok {
				_ = json.Unmarshal(s, &e) // another's variable is no machine
			}
			worker = worker || string(v) == workVariable+"=1"
		}
		if worker && e.Kind == kind && accept(e.Spec) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("no machine %s runs", kind)
}
