package backend

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// FreezeRequest is a request to the node of a volume, as the controller sees it: see package
// ondisk. Withdraw it.
type FreezeRequest struct {
	place string
	root  *safepath.Dir
	file  *os.File
	note  ondisk.FreezeRequest
}

// RequestFreeze asks the node of a volume to pause writes. The node acts on the second
// heartbeat.
func (b Block) RequestFreeze(name string) (*FreezeRequest, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	place := ondisk.FreezeRequests + "/" + name + "." + hex.EncodeToString(id)
	f, err := b.Root.Create(place, blockMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.Root.MkdirAll(ondisk.FreezeRequests, privateMode); err != nil {
			return nil, fmt.Errorf("create %s: %w", ondisk.FreezeRequests, err)
		}
		f, err = b.Root.Create(place, blockMode)
	}
	if err != nil {
		return nil, fmt.Errorf("request a freeze of volume %s: %w", name, err)
	}
	r := &FreezeRequest{place: place, root: b.Root, file: f}
	if err := r.Heartbeat(); err != nil {
		return nil, errors.Join(err, r.Withdraw())
	}
	return r, nil
}

// Heartbeat tells the node that the controller is still waiting.
func (r *FreezeRequest) Heartbeat() error {
	r.note.Heartbeat++
	text, err := r.note.Encode()
	if err == nil {
		err = safepath.FromFile(r.file).SetAttribute(ondisk.FreezeRequestAttribute, text)
	}
	if err != nil {
		return fmt.Errorf("write a freeze request: %w", err)
	}
	return nil
}

// MarkCopied tells the node that the copy is complete.
func (r *FreezeRequest) MarkCopied() error {
	r.note.Copied = true
	return r.Heartbeat()
}

// Status reads the node's status; its State is "" before the first.
func (r *FreezeRequest) Status() (ondisk.FreezeStatus, error) {
	text, err := safepath.FromFile(r.file).Attribute(ondisk.FreezeStatusAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return ondisk.FreezeStatus{}, nil
	}
	if err != nil {
		return ondisk.FreezeStatus{}, err
	}
	return ondisk.DecodeFreezeStatus(text)
}

// Withdraw removes the request: the node resumes writes at once.
func (r *FreezeRequest) Withdraw() error {
	err := r.root.Unlink(r.place)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, r.file.Close())
}

// ReceivedFreeze is a freeze request as the node sees it. Close it.
type ReceivedFreeze struct{ entry *safepath.Entry }

// FreezeRequests returns the freeze requests of a pool by ID, with the names of their volumes.
func (b Block) FreezeRequests() (map[string]string, error) {
	names, err := listNames(b.Root, ondisk.FreezeRequests)
	if err != nil {
		return nil, fmt.Errorf("list freeze requests: %w", err)
	}
	requests := map[string]string{}
	for _, id := range names {
		if volume, _, is := strings.Cut(id, "."); is {
			requests[id] = volume
		}
	}
	return requests, nil
}

// OpenFreezeRequest opens a request by ID.
func (b Block) OpenFreezeRequest(id string) (*ReceivedFreeze, error) {
	e, err := b.Root.OpenPath(ondisk.FreezeRequests + "/" + id)
	if err != nil {
		return nil, err
	}
	return &ReceivedFreeze{e}, nil
}

// Read reads the present state of the request. It fails if the request was withdrawn.
func (r *ReceivedFreeze) Read() (ondisk.FreezeRequest, error) {
	text, err := r.entry.Attribute(ondisk.FreezeRequestAttribute)
	if err != nil {
		return ondisk.FreezeRequest{}, err
	}
	return ondisk.DecodeFreezeRequest(text)
}

// Reply writes the node's status.
func (r *ReceivedFreeze) Reply(status ondisk.FreezeStatus) error {
	text, err := status.Encode()
	if err != nil {
		return err
	}
	return r.entry.SetAttribute(ondisk.FreezeStatusAttribute, text)
}

// Close closes the file.
func (r *ReceivedFreeze) Close() error { return r.entry.Close() }
