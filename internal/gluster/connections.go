package gluster

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Connection is the state of a mount's connection to one brick.
type Connection struct {
	Brick     int // its index in the pool
	Connected bool
	// Lost counts the files that are open in the mount but no longer on the brick, because it
	// has restarted or was disconnected while they had locks there.
	Lost int
	// Open counts the files that are open on the brick. It is lower than on the set's other
	// bricks if files were opened while the client was not connected to this one.
	Open int
}

// Connections reads the name of a mount's active graph and the states of its connections
// from the meta xlator, without a request to any brick. Root is the mount's root.
func Connections(root string) (graph string, all []Connection, err error) {
	active := filepath.Join(root, ".meta/graphs/active")
	if graph, err = os.Readlink(active); err != nil {
		return "", nil, fmt.Errorf("read the graph of a mount: %w", err)
	}
	active = filepath.Join(root, ".meta/graphs", graph)
	names, err := os.ReadDir(active)
	if err != nil {
		return "", nil, fmt.Errorf("read the graph of a mount: %w", err)
	}
	for _, n := range names {
		_, index, isClient := strings.Cut(n.Name(), "-client-")
		brick, err := strconv.Atoi(index)
		if !isClient || err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(active, n.Name(), "private"))
		if err != nil {
			return "", nil, fmt.Errorf("read the graph of a mount: %w", err)
		}
		all = append(all, connection(brick, text))
	}
	return graph, all, nil
}

// connection parses lines such as "connected = 1" and "fd.0.remote_fd = -1"
// (client_priv_dump of xlators/protocol/client/src/client.c).
func connection(brick int, text []byte) Connection {
	c := Connection{Brick: brick}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " = ")
		name = strings.TrimSpace(name)
		switch {
		case name == "connected":
			c.Connected = strings.TrimSpace(value) == "1"
		case !strings.HasPrefix(name, "fd.") || !strings.HasSuffix(name, ".remote_fd"):
		case strings.TrimSpace(value) == "-1":
			c.Lost++
		default:
			c.Open++
		}
	}
	return c
}

// RenameTop returns a graph that differs from another only in the name of its top xlator. A
// client that fetches it switches to a new graph with new connections, and keeps its files
// open.
func RenameTop(volfile string, round int) string {
	at := strings.LastIndex(volfile, "\nvolume ")
	if round == 0 || at < 0 {
		return volfile
	}
	end := at + 1 + strings.IndexByte(volfile[at+1:], '\n')
	return volfile[:end] + "-" + strconv.Itoa(round) + volfile[end:]
}
