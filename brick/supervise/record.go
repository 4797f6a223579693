package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// suffix of the records' names, after the daemon's.
const suffix = ".crashes.json"

// Record counts the crashes of a daemon in the life of its pod.
type Record struct {
	Daemon  string `json:"daemon"`
	Crashes int    `json:"crashes"`
	// Last and Reason are those of the last crash: the signal's description, such as "segmentation
	// fault". Both are empty while there was none.
	Last   time.Time `json:"last,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// Records reads the records of all supervised daemons of a pod, in the order of their names. A
// directory that does not exist has none.
func Records(dir string) ([]Record, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the records of crashes: %w", err)
	}
	var all []Record
	for _, e := range entries {
		name, is := strings.CutSuffix(e.Name(), suffix)
		if !is {
			continue
		}
		r, err := read(dir, name)
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

func read(dir, daemon string) (Record, error) {
	r := Record{Daemon: daemon}
	file := filepath.Join(dir, daemon+suffix)
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{Daemon: daemon}, fmt.Errorf("read the record %s: %w", file, err)
	}
	return r, nil
}

// open returns the record of earlier supervisors in this pod, or a new one.
func (d *Daemon) open() (Record, error) {
	r, err := read(d.Records, d.Name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return r, err
}

// save replaces the record, so that a reader finds the former or the new one.
func (d *Daemon) save(r Record) {
	text, err := json.Marshal(r)
	if err == nil {
		file := filepath.Join(d.Records, d.Name+suffix)
		if err = os.WriteFile(file+".new", text, 0o600); err == nil {
			err = os.Rename(file+".new", file)
		}
	}
	if err != nil {
		d.Log.Error(err, "recording a crash", "daemon", d.Name)
	}
}
