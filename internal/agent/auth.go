// Package agent is the protocol between the driver and the agents of bricks, and between
// agents: JSON over HTTP. Requests that change something or walk the brick carry a token.
package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Port is the port of an agent in a brick pod.
const Port = 24010

// PathLimit accepts a LimitRequest (POST).
const PathLimit = "/v1/limit"

// LimitRequest requests that a volume is limited to a size. Folder is the volume's path
// below the brick, Bytes the size of the volume; the agent derives the brick's share.
type LimitRequest struct {
	Folder string `json:"folder"`
	Bytes  int64  `json:"bytes"`
}

// LimitAnswer reports whether the brick's file system enforces the limit.
type LimitAnswer struct {
	Enforced bool `json:"enforced"`
}

// minKey is the shortest accepted key, in bytes (RFC 7518, 3.2: as long as the hash).
const minKey = 32

// Keys are the keys that the driver and the agents share, the newest first.
type Keys [][]byte

// ReadKeys reads the keys in a directory, such as a mounted Secret. Each file is a key; the
// last by name is the newest. A missing or empty directory has no keys.
func ReadKeys(dir string) (Keys, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the agents' keys: %w", err)
	}
	var keys Keys
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // the kubelet's own links
			continue
		}
		key, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the agents' keys: %w", err)
		}
		if len(key) < minKey {
			return nil, fmt.Errorf("read the agents' keys: %s has %d bytes, at least %d are needed", e.Name(), len(key),
				minKey)
		}
		keys = append(keys, key)
	}
	slices.Reverse(keys)
	return keys, nil
}
