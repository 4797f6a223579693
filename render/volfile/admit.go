package volfile

import (
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// maxCopies is the most bricks that have the same data.
const maxCopies = 3

// user is what clients call themselves whose graph has this many copies. It is no secret,
// and neither is the password, without which GlusterFS looks at no name.
func user(copies int) string { return "copies-" + strconv.Itoa(copies) }

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
	return []Option{{"username", user(p.copies())}, {"password", user(p.copies())}}
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
		users = append(users, user(n))
		options = append(options, Option{"auth.login." + user(n) + ".password", user(n)})
	}
	return append([]Option{{"auth.login." + at.Directory + ".allow", strings.Join(users, ",")}}, options...)
}
