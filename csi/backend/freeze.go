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

// FreezeRequest is a question to the node that has a volume, see package volume. Close it.
type FreezeRequest struct {
	place string
	root  *safepath.Dir
	file  *os.File
	note  ondisk.FreezeRequest
}

// RequestFreeze begins to ask who has a volume to stop writing. It is not seen before it is repeated.
func (b Block) RequestFreeze(name string) (*FreezeRequest, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	place := ondisk.FreezeRequests + "/" + name + "." + hex.EncodeToString(id)
	f, err := b.Root.Create(place, blockMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.Root.MkdirAll(ondisk.FreezeRequests, ownMode); err != nil {
			return nil, fmt.Errorf("making %s: %w", ondisk.FreezeRequests, err)
		}
		f, err = b.Root.Create(place, blockMode)
	}
	if err != nil {
		return nil, fmt.Errorf("asking who has volume %s: %w", name, err)
	}
	a := &FreezeRequest{place: place, root: b.Root, file: f}
	if err := a.Heartbeat(); err != nil {
		return nil, errors.Join(err, a.Withdraw())
	}
	return a, nil
}

// Heartbeat says that somebody still waits.
func (a *FreezeRequest) Heartbeat() error {
	a.note.Heartbeat++
	text, err := a.note.Encode()
	if err == nil {
		err = safepath.Of(a.file).SetAttribute(ondisk.FreezeRequestAttribute, text)
	}
	if err != nil {
		return fmt.Errorf("asking a node: %w", err)
	}
	return nil
}

// MarkCopied says that the copy is complete.
func (a *FreezeRequest) MarkCopied() error {
	a.note.Copied = true
	return a.Heartbeat()
}

// Status reads what the node has answered; its State is "" before it has.
func (a *FreezeRequest) Status() (ondisk.FreezeStatus, error) {
	text, err := safepath.Of(a.file).Attribute(ondisk.FreezeStatusAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return ondisk.FreezeStatus{}, nil
	}
	if err != nil {
		return ondisk.FreezeStatus{}, err
	}
	return ondisk.DecodeFreezeStatus(text)
}

// Withdraw takes the question back: the node goes on at once.
func (a *FreezeRequest) Withdraw() error {
	err := a.root.Unlink(a.place)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, a.file.Close())
}

// ReceivedFreeze is a question as the node sees it. Close it.
type ReceivedFreeze struct{ entry *safepath.Entry }

// FreezeRequests lists the questions of a pool, by their names, with the volumes that they are for.
func (b Block) FreezeRequests() (map[string]string, error) {
	names, err := listed(b.Root, ondisk.FreezeRequests)
	if err != nil {
		return nil, fmt.Errorf("looking for questions: %w", err)
	}
	asks := map[string]string{}
	for _, n := range names {
		if of, _, is := strings.Cut(n, "."); is {
			asks[n] = of
		}
	}
	return asks, nil
}

// OpenFreezeRequest opens a question.
func (b Block) OpenFreezeRequest(ask string) (*ReceivedFreeze, error) {
	e, err := b.Root.OpenPath(ondisk.FreezeRequests + "/" + ask)
	if err != nil {
		return nil, err
	}
	return &ReceivedFreeze{e}, nil
}

// Read reads the question as it is now. An error is also that it was taken back.
func (a *ReceivedFreeze) Read() (ondisk.FreezeRequest, error) {
	text, err := a.entry.Attribute(ondisk.FreezeRequestAttribute)
	if err != nil {
		return ondisk.FreezeRequest{}, err
	}
	return ondisk.DecodeFreezeRequest(text)
}

// Reply answers it.
func (a *ReceivedFreeze) Reply(answer ondisk.FreezeStatus) error {
	text, err := answer.Encode()
	if err != nil {
		return err
	}
	return a.entry.SetAttribute(ondisk.FreezeStatusAttribute, text)
}

// Close closes it.
func (a *ReceivedFreeze) Close() error { return a.entry.Close() }
