package mounts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// Remote calls the mount server of this node.
type Remote struct{ client http.Client }

// NewRemote returns a Remote for the socket at path. The server may start later.
func NewRemote(path string) *Remote {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Remote{http.Client{Transport: &http.Transport{DialContext: dial, Protocols: &protocols}}}
}

// Close closes idle connections.
func (r *Remote) Close() { r.client.CloseIdleConnections() }

// rootLimit is how long Root waits for the server, which may have to start a client.
const rootLimit = startLimit + aliveLimit

// Root returns the directory where a pool is mounted.
func (r *Remote) Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, rootLimit)
	defer cancel()
	var response rootResponse
	err := r.call(ctx, pathRoot, rootRequest{p.Pool, layout}, &response)
	return response.Path, err
}

// Devices returns the devices of all clients that run, as mountinfo names them, and whether they answer.
func (r *Remote) Devices(ctx context.Context) (map[string]bool, error) {
	var response clientsResponse
	if err := r.call(ctx, pathClients, empty{}, &response); err != nil {
		return nil, err
	}
	devices := map[string]bool{}
	for _, device := range response.Devices {
		devices[device] = true
	}
	for _, device := range response.Hung {
		devices[device] = false
	}
	return devices, nil
}

// Attach attaches a block volume to this node: see blockdev.Manager.
func (r *Remote) Attach(ctx context.Context, pool, name string) (blockdev.Device, error) {
	var response deviceResponse
	err := r.call(ctx, pathAttach, blockRequest{Pool: pool, Name: name}, &response)
	return response.Device, err
}

// Detach detaches a block volume.
func (r *Remote) Detach(ctx context.Context, pool, name string) error {
	return r.call(ctx, pathDetach, blockRequest{Pool: pool, Name: name}, &empty{})
}

// MarkFormatted records that a file system was created on a block volume.
func (r *Remote) MarkFormatted(ctx context.Context, pool, name, fileSystem string) error {
	return r.call(ctx, pathFormatted, blockRequest{pool, name, fileSystem}, &empty{})
}

// Grow grows a device to the size of its volume.
func (r *Remote) Grow(ctx context.Context, pool, name string) (blockdev.Device, error) {
	var response deviceResponse
	err := r.call(ctx, pathGrow, blockRequest{Pool: pool, Name: name}, &response)
	return response.Device, err
}

// Lost lists block volumes that this node has lost and that are still in use.
func (r *Remote) Lost(ctx context.Context) (blockdev.Losses, error) {
	var all blockdev.Losses
	err := r.call(ctx, pathLost, blockRequest{}, &all)
	return all, err
}

// Delays between attempts to reach a server that does not listen: it runs on this machine, so
// it is found soon after it has started.
const (
	minDelay = 50 * time.Millisecond
	maxDelay = time.Second
)

// call makes a call. It waits until the server listens or the context ends.
func (r *Remote) call(ctx context.Context, path string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	for delay := minDelay; ; delay = min(delay*3/2, maxDelay) {
		err := r.post(ctx, path, body, response)
		var dial *net.OpError
		if !errors.As(err, &dial) || dial.Op != "dial" {
			return unreachable(err)
		}
		select {
		case <-ctx.Done():
			return unreachable(errors.Join(ctx.Err(), err))
		case <-time.After(delay):
		}
	}
}

// unreachable is the error of a call whose response is not known.
func unreachable(err error) error {
	var remote remoteError
	switch {
	case err == nil, errors.As(err, &remote):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: the mount server does not respond; "+
			"is the pod of DaemonSet atoll-csi-mounter running on this node? %w", ErrUnreachable, err)
	}
	return fmt.Errorf("%w: call the mount server: %w", ErrUnreachable, err)
}

// post makes one attempt.
func (r *Remote) post(ctx context.Context, path string, body []byte, response any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mounter"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	if deadline, limited := ctx.Deadline(); limited {
		q.Header.Set(headerTimeout, time.Until(deadline).String())
	}
	a, err := r.client.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, maxMessage))
	name, message := a.Header.Get(headerError), strings.TrimSpace(string(text))
	switch {
	case err != nil:
		return err
	case a.StatusCode == http.StatusOK:
		if err := json.Unmarshal(text, response); err != nil {
			return fmt.Errorf("decode the response to %s: %w", path, err)
		}
		return nil
	case a.StatusCode == http.StatusUnsupportedMediaType:
		return r.callGRPC(ctx, path, body, response)
	case a.StatusCode == http.StatusNotFound && name == "":
		return remoteError{"the mount server does not serve " + path +
			": it is older than the node plugin, or has no block volumes", ErrUnreachable}
	case name == "":
		return remoteError{"the mount server refused " + path + ": " + a.Status + ": " + message, ErrUnreachable}
	default:
		return newRemoteError(name, message)
	}
}
