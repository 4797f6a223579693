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

// Ask is a question to the node that has a volume, see package volume. Close it.
type Ask struct {
	place string
	root  *safepath.Dir
	file  *os.File
	note  ondisk.Ask
}

// Ask begins to ask who has a volume to stop writing. It is not seen before it is repeated.
func (b Block) Ask(name string) (*Ask, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	place := ondisk.Asks + "/" + name + "." + hex.EncodeToString(id)
	f, err := b.Root.Create(place, blockMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.Root.MkdirAll(ondisk.Asks, ownMode); err != nil {
			return nil, fmt.Errorf("making %s: %w", ondisk.Asks, err)
		}
		f, err = b.Root.Create(place, blockMode)
	}
	if err != nil {
		return nil, fmt.Errorf("asking who has volume %s: %w", name, err)
	}
	a := &Ask{place: place, root: b.Root, file: f}
	if err := a.Beat(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Beat says that somebody still waits.
func (a *Ask) Beat() error {
	a.note.Beat++
	text, err := a.note.Encode()
	if err == nil {
		err = safepath.Of(a.file).SetAttribute(ondisk.AskAttribute, text)
	}
	if err != nil {
		return fmt.Errorf("asking a node: %w", err)
	}
	return nil
}

// Copied says that the copy is complete.
func (a *Ask) Copied() error {
	a.note.Copied = true
	return a.Beat()
}

// Answer reads what the node has answered; its State is "" before it has.
func (a *Ask) Answer() (ondisk.Answer, error) {
	text, err := safepath.Of(a.file).Attribute(ondisk.AnswerAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return ondisk.Answer{}, nil
	}
	if err != nil {
		return ondisk.Answer{}, err
	}
	return ondisk.DecodeAnswer(text)
}

// Close takes the question back: the node goes on at once.
func (a *Ask) Close() error {
	err := a.root.Unlink(a.place)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, a.file.Close())
}

// Asked is a question as the node sees it. Close it.
type Asked struct{ entry *safepath.Entry }

// Asks lists the questions of a pool, by their names, with the volumes that they are for.
func (b Block) Asks() (map[string]string, error) {
	names, err := listed(b.Root, ondisk.Asks)
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

// Asked opens a question.
func (b Block) Asked(ask string) (*Asked, error) {
	e, err := b.Root.Look(ondisk.Asks + "/" + ask)
	if err != nil {
		return nil, err
	}
	return &Asked{e}, nil
}

// Read reads the question as it is now. An error is also that it was taken back.
func (a *Asked) Read() (ondisk.Ask, error) {
	text, err := a.entry.Attribute(ondisk.AskAttribute)
	if err != nil {
		return ondisk.Ask{}, err
	}
	return ondisk.DecodeAsk(text)
}

// Answer answers it.
func (a *Asked) Answer(answer ondisk.Answer) error {
	text, err := answer.Encode()
	if err != nil {
		return err
	}
	return a.entry.SetAttribute(ondisk.AnswerAttribute, text)
}

// Close closes it.
func (a *Asked) Close() error { return a.entry.Close() }
