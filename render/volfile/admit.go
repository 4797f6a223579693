package volfile

import (
	"strings"

	"github.com/atoll-storage/atoll/internal/volume"
	"github.com/atoll-storage/atoll/schema"
)

// maxCopies is the most bricks that have the same data.
const maxCopies = 3

// copies is how many bricks of a set have the same data, an arbiter counted; 0 where a
// brick has a part of it, and no brick can be added to a set.
func (p Pool) copies() int {
	if p.Type == schema.Disperse {
		return 0
	}
	return p.setSize()
}

// login is how a client names itself: by how many copies it writes.
func (p Pool) login() []Option {
	if p.copies() == 0 {
		return nil
	}
	return []Option{{"username", volume.User(p.copies())}, {"password", volume.User(p.copies())}}
}

// admit lets in clients that know of all copies that the pool has, or of more. One that
// does not write to a copy, and does not note what it lacks, must have gone before that
// copy can be taken for a good one. With auth.addr, GlusterFS would let in those whose name
// it does not know.
func (p Pool) admit(at Endpoint) []Option {
	if p.copies() == 0 {
		return []Option{{"auth.addr." + at.Directory + ".allow", "*"}}
	}
	var users []string
	var options []Option
	for n := p.copies(); n <= maxCopies; n++ {
		users = append(users, volume.User(n))
		options = append(options, Option{"auth.login." + volume.User(n) + ".password", volume.User(n)})
	}
	return append([]Option{{"auth.login." + at.Directory + ".allow", strings.Join(users, ",")}}, options...)
}
