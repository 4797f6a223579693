package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, "rendered", 3)
	p.step()
	if out.Len() > 0 {
		t.Errorf("a short command printed %q", out.String())
	}
	p.next = time.Time{}
	p.step()
	if got := out.String(); got != "atoll: rendered 2 of 3 pools\n" {
		t.Errorf("printed line %q", got)
	}
	out.Reset()
	p.terminal, p.next = true, time.Time{}
	p.step()
	p.end()
	if got := out.String(); !strings.HasPrefix(got, "\rrendered [####") || !strings.HasSuffix(got, "3/3\n") {
		t.Errorf("printed bar %q", got)
	}
}
