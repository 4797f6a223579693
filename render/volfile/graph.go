// Package volfile builds GlusterFS graphs as values and prints them in the
// format that glusterfs and glusterfsd read.
//
// A graph is a stack of xlators (translators), named by the one on top. Brick,
// Tiebreaker, Client, BlockClient and Heal build the graphs of a pool; Print
// writes one. The stacks follow what glusterd 10 generates, less what only
// glusterd needs.
package volfile

import (
	"errors"
	"fmt"
	"strings"
)

// Option is one setting of an xlator.
type Option struct{ Name, Value string }

// Xlator is one layer of a graph and, through Subvolumes, all below it.
type Xlator struct {
	Name, Type string
	Options    []Option
	Subvolumes []*Xlator
}

// ErrUnprintable is wrapped by every error of Print.
var ErrUnprintable = errors.New("the graph cannot be written as a volfile")

// Print writes the graph bottom-up, each xlator once, as the format demands: a
// volume is defined before it is used. It refuses what GlusterFS would read
// back as something else.
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
		return errors.New("an xlator is missing")
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
		return fmt.Errorf("xlator %q of type %q: names and types are one word without quotes", x.Name, x.Type)
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
			return fmt.Errorf("xlator %q: %q is not an option's name", x.Name, o.Name)
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

// isWord reports whether the volfile's scanner takes s as one word: printable
// ASCII, no space, no quote, and no '#', which starts a comment.
func isWord(s string) bool {
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'`#\\", r) {
			return false
		}
	}
	return s != ""
}

// quote gives an option's value as the scanner reads it back: a bare word, or
// a string in double quotes. Inside quotes the scanner knows escapes that differ
// between versions, so quotes and backslashes are refused, and control characters.
func quote(value string) (string, error) {
	if isWord(value) {
		return value, nil
	}
	for _, r := range value {
		if r < ' ' || r == 0x7f || r == '"' || r == '\\' || r == '`' || r == '\uFFFD' {
			return "", fmt.Errorf("the value %q has a character that a volfile cannot hold", value)
		}
	}
	if value == "" {
		return "", errors.New("the value is empty")
	}
	return `"` + value + `"`, nil
}
