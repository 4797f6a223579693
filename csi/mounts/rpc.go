package mounts

import (
	"context"
	"errors"
	"net/http"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// The node plugin calls the mount server over HTTP on a unix socket. Each call is a POST with
// a JSON object. Status 200 comes with a JSON object. Any other status comes with the text of
// the error, and with its name if a handler returned it. Fields that are not known are
// ignored: plugin and server may have different versions (ADR 0021).
//
// A request names a pool, with a layout or a volume, and nothing else: the server reads the
// catalog itself.

// Paths of the calls.
const (
	pathRoot      = "/v1/root"
	pathClients   = "/v1/clients"
	pathAttach    = "/v1/attach"
	pathDetach    = "/v1/detach"
	pathFormatted = "/v1/formatted"
	pathGrow      = "/v1/grow"
	pathLost      = "/v1/lost"
)

// Headers. A request carries the time that is left before its deadline, as Go formats a
// duration. An error response carries the error's name.
const (
	headerTimeout = "Atoll-Timeout"
	headerError   = "Atoll-Error"
)

// maxMessage is the longest request or response that is read, in bytes.
const maxMessage = 4 << 20

// rootRequest asks for the directory where a pool is mounted.
type rootRequest struct {
	Pool   string        `json:"pool"`
	Layout schema.Layout `json:"layout"`
}

type rootResponse struct {
	Path string `json:"path"`
}

// clientsResponse has the devices of running clients, as mountinfo names them, and of those the ones
// that do not answer.
type clientsResponse struct {
	Devices []string `json:"devices"`
	Hung    []string `json:"hung,omitempty"`
}

// blockRequest names a block volume; FileSystem is for pathFormatted.
type blockRequest struct {
	Pool       string `json:"pool,omitempty"`
	Name       string `json:"name,omitempty"`
	FileSystem string `json:"fileSystem,omitempty"`
}

type deviceResponse struct {
	Device blockdev.Device `json:"device,omitzero"`
}

type empty struct{}

// errorNames are the names of the errors that callers distinguish. They must not change:
// plugin and server may have different versions. The first that matches counts.
var errorNames = []struct {
	name   string
	err    error
	status int
}{
	{"in use", backend.ErrInUse, http.StatusConflict},
	{"no volume", backend.ErrNotFound, http.StatusNotFound},
	{"record", backend.ErrRecord, http.StatusInternalServerError},
	{"no pool", catalog.ErrNoPool, http.StatusNotFound},
	{"busy", blockdev.ErrBusy, http.StatusConflict},
	{"open", blockdev.ErrOpen, http.StatusConflict},
	{"lost", blockdev.ErrLost, http.StatusGone},
	{"not attached", blockdev.ErrNotAttached, http.StatusConflict},
	{"unreachable", ErrUnreachable, http.StatusServiceUnavailable},
}

// otherError is the name of all other errors.
const otherError = "other"

// nameOf returns the name of an error and the HTTP status that it is sent with.
func nameOf(err error) (name string, status int) {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = errors.Join(err, ErrUnreachable) // the caller's time is over, which this side noticed first
	}
	for _, n := range errorNames {
		if errors.Is(err, n.err) {
			return n.name, n.status
		}
	}
	return otherError, http.StatusInternalServerError
}

// remoteError is an error of the mount server: its whole text, and the error that its name
// stands for, nil if it has none here.
type remoteError struct {
	text string
	is   error
}

func newRemoteError(name, text string) remoteError {
	e := remoteError{text: text}
	for _, n := range errorNames {
		if n.name == name {
			e.is = n.err
		}
	}
	return e
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.is }
