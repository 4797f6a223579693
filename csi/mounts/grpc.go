package mounts

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Before ADR 0021 the calls were gRPC with JSON messages. A mount server outlives the node
// plugin through an upgrade, until its node is drained, so both still speak that dialect with a
// peer of that time. It is gRPC's framing on HTTP/2 around the same JSON. Remove this file, its
// test and the two calls of it once no such mount server can be running.

const (
	grpcService     = "/atoll.mounts.v1.Holder/"
	grpcContentType = "application/grpc+atoll-json"
	grpcPrefix      = 5 // bytes before a message: not compressed, and its length

	grpcNotFound      = 5
	grpcUnimplemented = 12
	grpcUnavailable   = 14
)

var grpcMethods = map[string]string{
	pathRoot: "Root", pathAttach: "Attach", pathDetach: "Detach",
	pathFormatted: "Formatted", pathGrow: "Grow", pathLost: "Lost",
}

// grpcFailure is the part of a response that reported the error of a call for block volumes.
type grpcFailure struct {
	Kind  string `json:"kind,omitempty"` // see errorNames
	Error string `json:"error,omitempty"`
}

func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// callGRPC makes a call of a mount server that speaks gRPC.
func (r *Remote) callGRPC(ctx context.Context, path string, message []byte, response any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mounter"+grpcService+grpcMethods[path],
		bytes.NewReader(frame(message)))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", grpcContentType)
	q.Header.Set("Te", "trailers")
	a, err := r.client.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(io.LimitReader(a.Body, maxMessage)) // trailers come after it
	if err != nil {
		return err
	}
	status, text := a.Trailer.Get("Grpc-Status"), a.Trailer.Get("Grpc-Message")
	if status == "" { // a response without a message has them in its header
		status, text = a.Header.Get("Grpc-Status"), a.Header.Get("Grpc-Message")
	}
	if text, err = url.PathUnescape(text); err != nil {
		return err
	}
	switch status {
	case "0":
	case strconv.Itoa(grpcNotFound):
		return newRemoteError("no pool", text)
	default:
		return newRemoteError("unreachable", text)
	}
	var failure grpcFailure
	if len(body) < grpcPrefix {
		return errors.New("the mount server's response has no message")
	}
	message = body[grpcPrefix:]
	if err := errors.Join(json.Unmarshal(message, &failure), json.Unmarshal(message, response)); err != nil {
		return fmt.Errorf("decode the mount server's response: %w", err)
	}
	if failure.Error != "" {
		return newRemoteError(failure.Kind, failure.Error)
	}
	return nil
}

// acceptGRPC serves calls of node plugins that speak gRPC by the handler of the same calls.
func acceptGRPC(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			h.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err != nil || len(body) < grpcPrefix {
			http.Error(w, "the request has no message", http.StatusBadRequest)
			return
		}
		inner := r.Clone(r.Context())
		inner.Body = io.NopCloser(bytes.NewReader(body[grpcPrefix:]))
		for path, method := range grpcMethods {
			if r.URL.Path == grpcService+method {
				inner.URL.Path = path
			}
		}
		recorded := &recorder{header: http.Header{}, code: http.StatusOK}
		h.ServeHTTP(recorded, inner)
		writeGRPC(w, inner.URL.Path, recorded)
	})
}

// recorder keeps a response.
type recorder struct {
	header http.Header
	code   int
	bytes.Buffer
}

func (r *recorder) Header() http.Header  { return r.header }
func (r *recorder) WriteHeader(code int) { r.code = code }

// writeGRPC writes a response as the gRPC server did.
func writeGRPC(w http.ResponseWriter, path string, response *recorder) {
	message, text, status := response.Bytes(), "", 0
	if name := response.header.Get(headerError); response.code != http.StatusOK {
		text = strings.TrimSpace(response.String())
		switch {
		case name == "":
			status = grpcUnimplemented
		case path == pathRoot && name == "no pool":
			status = grpcNotFound
		case path == pathRoot:
			status = grpcUnavailable
		default:
			message, _ = json.Marshal(grpcFailure{name, text}) // of strings: cannot fail
		}
	}
	w.Header().Set("Content-Type", grpcContentType)
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(status))
	if status == 0 {
		_, _ = w.Write(frame(message)) // fails only if the caller has given up
		return
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Message", url.PathEscape(text))
	w.WriteHeader(http.StatusOK)
}
