package volfile

import (
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// maxCopies is the maximum number of bricks with the same data.
const maxCopies = 3

// user returns the user name of clients whose graph has this many copies. Neither it nor the
// password is a secret: GlusterFS checks user names only together with a password.
func user(copies int) string { return "copies-" + strconv.Itoa(copies) }

// copies returns how many bricks of a set have the same data, including an arbiter. It
// returns 0 for Disperse, where a brick has a part of the data and sets cannot grow.
func (p Pool) copies() int {
	if p.Type == schema.Disperse {
		return 0
	}
	return p.setSize()
}

// login returns the credentials of a client, which state how many copies it writes.
func (p Pool) login() []Option {
	if p.copies() == 0 {
		return nil
	}
	return []Option{{"username", user(p.copies())}, {"password", user(p.copies())}}
}

// admit returns the options that admit clients whose graph has all copies of the pool, or
// more. A client with an old graph neither writes to a new copy nor marks it as pending, so
// it must be disconnected before that copy counts as good. auth.addr is not set, because
// with it GlusterFS would also admit unknown user names.
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
