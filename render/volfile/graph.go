// Package volfile builds GlusterFS graphs as values and prints them in the
// format that glusterfs and glusterfsd read.
//
// A graph is a stack of xlators (translators), named after its top xlator. Brick,
// Tiebreaker, Client, BlockClient, Heal and Rebalance build the graphs of a pool; Print
// prints a graph. The stacks follow those that glusterd 10 generates, without the parts that
// only glusterd needs.
package volfile

import (
	"errors"
	"fmt"
	"strings"
)

// Option is one setting of an xlator.
type Option struct{ Name, Value string }

// Xlator is one layer of a graph and, through Subvolumes, all layers below it.
type Xlator struct {
	Name, Type string
	Options    []Option
	Subvolumes []*Xlator
}

// ErrUnprintable is wrapped by every error of Print.
var ErrUnprintable = errors.New("print volfile")

// Print prints the graph bottom-up, each xlator once, because the format requires that a
// volume is defined before it is used. It refuses graphs that GlusterFS would parse as
// something else.
func Print(top *Xlator) (string, error) {
	p := printer{state: map[*Xlator]visit{}, names: map[string]bool{}}
	if err := p.print(top); err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnprintable, err)
	}
	return p.out.String(), nil
}

type visit int

const (
	unseen visit = iota
	open
	done
)

type printer struct {
	out   strings.Builder
	state map[*Xlator]visit
	names map[string]bool
}

func (p *printer) print(x *Xlator) error {
	if x == nil {
		return errors.New("an xlator is nil")
	}
	switch p.state[x] {
	case done:
		return nil
	case open:
		return fmt.Errorf("xlator %q is below itself", x.Name)
	}
	p.state[x] = open
	for _, s := range x.Subvolumes {
		if err := p.print(s); err != nil {
			return err
		}
	}
	p.state[x] = done
	return p.write(x)
}

func (p *printer) write(x *Xlator) error {
	if p.names[x.Name] {
		return fmt.Errorf("two xlators are named %q", x.Name)
	}
	p.names[x.Name] = true
	if !isWord(x.Name) || !isWord(x.Type) {
		return fmt.Errorf("xlator %q of type %q: names and types must be one word without quotes", x.Name, x.Type)
	}
	if p.out.Len() > 0 {
		p.out.WriteByte('\n')
	}
	fmt.Fprintf(&p.out, "volume %s\n    type %s\n", x.Name, x.Type)
	for _, o := range x.Options {
		value, err := quote(o.Value)
		if err != nil {
			return fmt.Errorf("xlator %q, option %q: %w", x.Name, o.Name, err)
		}
		if !isWord(o.Name) {
			return fmt.Errorf("xlator %q: %q is not an option name", x.Name, o.Name)
		}
		fmt.Fprintf(&p.out, "    option %s %s\n", o.Name, value)
	}
	if len(x.Subvolumes) > 0 {
		p.out.WriteString("    subvolumes")
		for _, s := range x.Subvolumes {
			p.out.WriteString(" " + s.Name)
		}
		p.out.WriteByte('\n')
	}
	p.out.WriteString("end-volume\n")
	return nil
}

// isWord reports whether the volfile's scanner reads s as one word: printable ASCII without
// spaces, quotes and '#', which starts a comment.
func isWord(s string) bool {
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'`#\\", r) {
			return false
		}
	}
	return s != ""
}

// quote returns an option's value in the scanner's syntax: a bare word or a string in double
// quotes. Escapes in strings differ between versions of the scanner, so quote refuses quotes
// and backslashes, as well as control characters.
func quote(value string) (string, error) {
	if isWord(value) {
		return value, nil
	}
	for _, r := range value {
		if r < ' ' || r == 0x7f || r == '"' || r == '\\' || r == '`' || r == '\uFFFD' {
			return "", fmt.Errorf("the value %q has a character that a volfile cannot represent", value)
		}
	}
	if value == "" {
		return "", errors.New("the value is empty")
	}
	return `"` + value + `"`, nil
}
