package mounts

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestRotateLog: a log never gets much longer than the limit, and the last lines are kept.
func TestRotateLog(t *testing.T) {
	const limit = 1000
	path := filepath.Join(t.TempDir(), "log")
	if err := rotateLog(path, limit); err != nil {
		t.Errorf("no log: %v", err)
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) // as a client has it
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	size := func(path string) int {
		text, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return len(text)
	}
	for i, step := range []struct{ write, now, before int }{
		{limit, limit, 0}, {1, 0, limit}, {10, 10, limit}, {3 * limit, 0, limit},
	} {
		if _, err := log.Write(bytes.Repeat([]byte{byte('0' + i)}, step.write)); err != nil {
			t.Fatal(err)
		}
		if err := rotateLog(path, limit); err != nil {
			t.Fatal(err)
		}
		if now, before := size(path), size(path+".1"); now != step.now || before != step.before {
			t.Errorf("step %d: %d bytes, and %d of before", i, now, before)
		}
	}
}
