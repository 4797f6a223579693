// Package identity stores on a brick which incarnation it is, and which incarnations it has seen
// of the other bricks of its set.
package identity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Brick is GlusterDir of a brick, open.
type Brick struct{ *os.File }

// Incarnation reads the brick's incarnation. Its ID is "" if the brick was never started by a
// version that has incarnations.
func (b Brick) Incarnation() (ondisk.Incarnation, error) {
	text, err := b.attribute(ondisk.IncarnationAttribute)
	if err != nil || text == nil {
		return ondisk.Incarnation{}, err
	}
	return ondisk.DecodeIncarnation(text)
}

// Members reads what the brick has seen of its set. The result is never nil.
func (b Brick) Members() (ondisk.Members, error) {
	text, err := b.attribute(ondisk.MembersAttribute)
	if err != nil || text == nil {
		return ondisk.Members{}, err
	}
	return ondisk.DecodeMembers(text)
}

// Start notes that the brick starts. It returns its incarnation before that, which is the newest
// that others can have seen, and its present one. A brick without ID gets one.
func (b Brick) Start() (before, now ondisk.Incarnation, err error) {
	before, err = b.Incarnation()
	if err != nil {
		return before, now, err
	}
	now = before
	if now.ID == "" {
		now.ID = uuid.NewString()
	}
	nonce := uuid.New()
	now.Start, now.Nonce = now.Start+1, hex.EncodeToString(nonce[:4])
	return before, now, b.SetIncarnation(now)
}

// Joining reads the random ID with which a brick joins its set, "" if it has joined.
func (b Brick) Joining() (string, error) {
	id, err := b.attribute(ondisk.JoiningAttribute)
	return string(id), err
}

// SetIncarnation stores the brick's incarnation, durably.
func (b Brick) SetIncarnation(i ondisk.Incarnation) error {
	text, err := i.Encode()
	if err != nil {
		return err
	}
	return b.setAttribute(ondisk.IncarnationAttribute, text)
}

// SetMembers stores what the brick has seen of its set, durably.
func (b Brick) SetMembers(m ondisk.Members) error {
	text, err := m.Encode()
	if err != nil {
		return err
	}
	return b.setAttribute(ondisk.MembersAttribute, text)
}

// Places reads where the brick has seen the others of its set.
func (b Brick) Places() (ondisk.Places, error) {
	text, err := b.attribute(ondisk.PlacesAttribute)
	if err != nil || text == nil {
		return nil, err
	}
	return ondisk.DecodePlaces(text)
}

// SetPlaces stores where the brick has seen the others of its set, durably.
func (b Brick) SetPlaces(p ondisk.Places) error {
	text, err := p.Encode()
	if err != nil {
		return err
	}
	return b.setAttribute(ondisk.PlacesAttribute, text)
}

// Replaced reads why the brick must not serve any more, "" if it may.
func (b Brick) Replaced() (string, error) {
	reason, err := b.attribute(ondisk.ReplacedAttribute)
	return string(reason), err
}

// SetReplaced stores, durably, that the brick must not serve any more, and why.
func (b Brick) SetReplaced(reason string) error {
	return b.setAttribute(ondisk.ReplacedAttribute, []byte(reason))
}

// attribute is nil if the brick does not have it.
func (b Brick) attribute(name string) ([]byte, error) {
	value, err := safepath.FromFile(b.File).Attribute(name)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("brick: %w", err)
	}
	return value, nil
}

func (b Brick) setAttribute(name string, value []byte) error {
	if err := safepath.FromFile(b.File).SetAttribute(name, value); err != nil {
		return fmt.Errorf("brick: %w", err)
	}
	if err := b.Sync(); err != nil {
		return fmt.Errorf("sync the brick: %w", err)
	}
	return nil
}
