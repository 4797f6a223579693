package ondisk

import (
	"errors"
	"fmt"
)

// IncarnationAttribute is on GlusterDir of a brick and has its Incarnation.
const IncarnationAttribute = "trusted.atoll.incarnation"

// MembersAttribute is on GlusterDir of a brick and has its Members.
const MembersAttribute = "trusted.atoll.members"

// Incarnation tells apart the bricks that have one position of a set one after another, and the
// states of one brick: the brick itself, an earlier copy of its disk, and a clone.
type Incarnation struct {
	// ID is random and given to a brick when it starts for the first time.
	ID string `json:"id"`
	// Epoch is 1 for the first brick of a position. A brick that replaces another has one more.
	Epoch uint64 `json:"epoch"`
	// Start counts the starts of the brick.
	Start uint64 `json:"start"`
	// Nonce is random for each start.
	Nonce string `json:"nonce"`
}

// Members maps positions of a set, such as "0", to the newest incarnations that a brick has seen
// there.
type Members map[string]Incarnation

// Reasons why a brick is not the one that its set knows.
var (
	ErrReplaced   = errors.New("another brick has replaced this one")
	ErrRolledBack = errors.New("this brick is an earlier copy")
	ErrCloned     = errors.New("this brick is a clone")
)

// Check compares what is known of a position with a brick that claims it. It is nil if nothing
// is known, or if the brick is as new as what is known, or newer.
func (i Incarnation) Check(claims Incarnation) error {
	switch {
	case i.ID == "":
		return nil
	case i.ID != claims.ID && i.Epoch >= claims.Epoch:
		return fmt.Errorf("%w: its epoch is %d, the set knows another brick with epoch %d", ErrReplaced, claims.Epoch,
			i.Epoch)
	case i.ID != claims.ID:
		return nil
	case i.Start > claims.Start:
		return fmt.Errorf("%w: it was started %d times, the set has seen start %d", ErrRolledBack, claims.Start,
			i.Start)
	case i.Start == claims.Start && i.Nonce != claims.Nonce:
		return fmt.Errorf("%w: the set has seen start %d of a brick that has the same ID", ErrCloned, i.Start)
	}
	return nil
}

// Learn notes an incarnation that was seen at a position, if it is newer than what is known. It
// reports whether it is.
func (m Members) Learn(position string, seen Incarnation) bool {
	known := m[position]
	newer := known.ID == seen.ID && seen.Start > known.Start || known.ID != seen.ID && seen.Epoch > known.Epoch
	if seen.ID != "" && (known.ID == "" || newer) {
		m[position] = seen
		return true
	}
	return false
}

// Encode returns the value of IncarnationAttribute.
func (i Incarnation) Encode() ([]byte, error) { return encode(i, "the incarnation of a brick") }

// DecodeIncarnation parses a value of IncarnationAttribute. ErrRecord.
func DecodeIncarnation(text []byte) (i Incarnation, err error) {
	return i, decode(text, &i, "the incarnation of a brick")
}

// Encode returns the value of MembersAttribute.
func (m Members) Encode() ([]byte, error) { return encode(m, "the members of a set") }

// DecodeMembers parses a value of MembersAttribute. ErrRecord.
func DecodeMembers(text []byte) (m Members, err error) {
	return m, decode(text, &m, "the members of a set")
}
