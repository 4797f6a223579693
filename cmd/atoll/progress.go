package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progressDelay is how long a command may take before it says how far it is.
const progressDelay = 2 * time.Second

// progress tells a person how far a long command is: a bar on a terminal, a line
// now and then elsewhere, nothing for commands that are quick.
type progress struct {
	out      io.Writer
	terminal bool
	verb     string
	total    int
	done     int
	next     time.Time
	shown    bool
}

func newProgress(out io.Writer, what string, total int) *progress {
	p := &progress{out: out, verb: what, total: total, next: time.Now().Add(progressDelay)}
	if f, is := out.(*os.File); is {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// step counts one more done.
func (p *progress) step() {
	p.done++
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.shown = true
	if !p.terminal {
		p.next = now.Add(progressDelay)
		fmt.Fprintf(p.out, "atoll: %s %d of %d pools\n", p.verb, p.done, p.total)
		return
	}
	p.next = now.Add(progressDelay / 20)
	const width = 40
	full := width * p.done / max(1, p.total)
	fmt.Fprintf(p.out, "\r%s [%s%s] %d/%d", p.verb, strings.Repeat("#", full), strings.Repeat(" ", width-full), p.done, p.total)
}

// end leaves the bar's line.
func (p *progress) end() {
	if p.shown && p.terminal {
		fmt.Fprintln(p.out)
	}
}
