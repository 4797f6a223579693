package gluster

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// ErrGraphChanging is returned while a mount switches to another graph. The client still runs.
var ErrGraphChanging = errors.New("the mount is switching to another graph")

// The meta xlator gives its files new gfids in each graph. The kernel looks them up in the former
// graph's directories until its names expire, a second after they were last looked up (glusterfs'
// default for --entry-timeout).
const (
	changingLimit = 3 * time.Second
	changingPause = 50 * time.Millisecond
)

// Connections reads the name of a mount's active graph and the states of its connections
// from the meta xlator, without a request to any brick. Root is the mount's root. If the mount
// is switching to another graph, it waits for that, and returns ErrGraphChanging after three
// seconds.
func Connections(root string) (graph string, all []Connection, err error) {
	return ConnectionsIn(filepath.Join(root, MetaDir))
}

// MetaDir is the directory of the meta xlator in the root of a mount.
const MetaDir = ".meta"

// ConnectionsIn is Connections with the path of MetaDir. A path in /proc of an open MetaDir works
// while no brick is connected: the root, by which others lead, does not answer then. It is of one
// graph, and stale in the next.
func ConnectionsIn(meta string) (graph string, all []Connection, err error) {
	for end := time.Now().Add(changingLimit); ; time.Sleep(changingPause) {
		graph, all, err = readConnections(meta)
		if !isStale(err) {
			break
		}
		if time.Now().After(end) {
			err = fmt.Errorf("%w: %w", ErrGraphChanging, err)
			break
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("read the graph of a mount: %w", err)
	}
	return graph, all, nil
}

// isStale reports whether an error is one that the meta xlator returns for files of a former
// graph.
func isStale(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.EBADF)
}

func readConnections(meta string) (graph string, all []Connection, err error) {
	graphs := filepath.Join(meta, "graphs")
	if graph, err = os.Readlink(filepath.Join(graphs, "active")); err != nil {
		return "", nil, err
	}
	names, err := os.ReadDir(filepath.Join(graphs, graph))
	if err != nil {
		return "", nil, err
	}
	for _, n := range names {
		_, index, isClient := strings.Cut(n.Name(), "-client-")
		brick, err := strconv.Atoi(index)
		if !isClient || err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(graphs, graph, n.Name(), "private"))
		if err != nil {
			return "", nil, err
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
