package ondisk

import (
	"fmt"
	"slices"
	"strings"
)

// PlacesAttribute is on GlusterDir of a brick and has its Places.
const PlacesAttribute = "trusted.atoll.places"

// ReplacedAttribute is on GlusterDir of a brick that must not serve any more, because its set
// knows a newer one. Its value says why.
const ReplacedAttribute = "trusted.atoll.replaced"

// Place is where a brick was last seen: its position in the set, the ID of its incarnation, and
// the IP address of its pod.
type Place struct{ Position, ID, Address string }

// maxPlaces bounds the places that a brick stores: ext4 has 4 KiB for all attributes of a
// directory. The oldest are dropped.
const maxPlaces = 24

// MarshalText encodes a place as three words.
func (p Place) MarshalText() ([]byte, error) {
	return []byte(p.Position + " " + p.ID + " " + p.Address), nil
}

// UnmarshalText decodes a place.
func (p *Place) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) != 3 {
		return fmt.Errorf("parse the place of a brick: %q is not a position, an ID and an address", text)
	}
	*p = Place{Position: words[0], ID: words[1], Address: words[2]}
	return nil
}

// Places are where a brick has seen the others of its set, and those that they have replaced,
// the oldest first.
type Places []Place

// Note notes where a brick was seen. It reports whether that is new.
func (p *Places) Note(seen Place) bool {
	if seen.ID == "" || seen.Address == "" || slices.Contains(*p, seen) {
		return false
	}
	*p = slices.DeleteFunc(*p, func(other Place) bool { return other.ID == seen.ID })
	*p = append(*p, seen)
	*p = slices.Delete(*p, 0, max(0, len(*p)-maxPlaces))
	return true
}

// Forget drops the brick with this ID. It reports whether it was known.
func (p *Places) Forget(id string) bool {
	before := len(*p)
	*p = slices.DeleteFunc(*p, func(other Place) bool { return other.ID == id })
	return len(*p) < before
}

// Former returns the places of bricks that others have replaced: their incarnation is not the
// newest of their position.
func (p Places) Former(newest Members) (former Places) {
	for _, place := range p {
		if known := newest[place.Position]; known.ID != "" && known.ID != place.ID {
			former = append(former, place)
		}
	}
	return former
}

// Encode returns the value of PlacesAttribute.
func (p Places) Encode() ([]byte, error) { return encode(p, "the places of a set's bricks") }

// DecodePlaces parses a value of PlacesAttribute. ErrRecord.
func DecodePlaces(text []byte) (p Places, err error) {
	return p, decode(text, &p, "the places of a set's bricks")
}
