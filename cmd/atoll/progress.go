package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// quiet is how long a command may take before it says how far it is.
const quiet = 2 * time.Second

// progress tells a person how far a long command is: a bar on a terminal, a line
// now and then elsewhere, nothing for commands that are quick.
type progress struct {
	out      io.Writer
	terminal bool
	what     string
	total    int
	done     int
	next     time.Time
	shown    bool
}

func newProgress(out io.Writer, what string, total int) *progress {
	p := &progress{out: out, what: what, total: total, next: time.Now().Add(quiet)}
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
		p.next = now.Add(quiet)
		fmt.Fprintf(p.out, "atoll: %s %d of %d pools\n", p.what, p.done, p.total)
		return
	}
	p.next = now.Add(quiet / 20)
	const width = 40
	full := width * p.done / max(1, p.total)
	fmt.Fprintf(p.out, "\r%s [%s%s] %d/%d", p.what, strings.Repeat("#", full), strings.Repeat(" ", width-full), p.done, p.total)
}

// end leaves the bar's line.
func (p *progress) end() {
	if p.shown && p.terminal {
		fmt.Fprintln(p.out)
	}
}
