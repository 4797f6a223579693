package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progressDelay is how long a command runs before it shows its progress.
const progressDelay = 2 * time.Second

// progress shows the progress of a long command: a bar on a terminal, else a line
// from time to time. Short commands show nothing.
type progress struct {
	out      io.Writer
	terminal bool
	verb     string
	total    int
	done     int
	next     time.Time
	shown    bool
}

func newProgress(out io.Writer, verb string, total int) *progress {
	p := &progress{out: out, verb: verb, total: total, next: time.Now().Add(progressDelay)}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// step counts one finished pool.
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
	bar := strings.Repeat("#", full) + strings.Repeat(" ", width-full)
	fmt.Fprintf(p.out, "\r%s [%s] %d/%d", p.verb, bar, p.done, p.total)
}

// end finishes the line of the bar.
func (p *progress) end() {
	if p.shown && p.terminal {
		fmt.Fprintln(p.out)
	}
}
