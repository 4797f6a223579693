package gluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

const triple = `volume v-client-0
    type protocol/client
    option remote-host a
end-volume

volume v-client-1
    type protocol/client
    option remote-host b
end-volume

volume v-client-2
    type protocol/client
end-volume

volume v-replicate-0
    type cluster/replicate
    subvolumes v-client-0 v-client-1 v-client-2
end-volume

volume v
    type debug/io-stats
    subvolumes v-replicate-0
end-volume
`

func TestServes(t *testing.T) {
	for _, test := range []struct {
		change func(text string) string
		down   []int
		want   bool
	}{
		{nil, nil, true},
		{nil, []int{1}, true},
		{nil, []int{0, 1}, false},
		{
			func(s string) string { return strings.Replace(s, "cluster/replicate", "cluster/distribute", 1) },
			[]int{2},
			false,
		},
		{func(s string) string {
			return strings.Replace(s, "type cluster/replicate", "type cluster/disperse\n option redundancy 1", 1)
		}, []int{2}, true},
		{func(s string) string {
			return strings.Replace(s, "type cluster/replicate", "type cluster/disperse\n option redundancy 1", 1)
		}, []int{1, 2}, false},
		{func(s string) string {
			return strings.Replace(s, "v-client-0 v-client-1 v-client-2", "v-client-0 v-client-1", 1)
		}, []int{1}, true},
		{func(s string) string {
			return strings.Replace(s, "v-client-0 v-client-1 v-client-2", "v-client-0 v-client-1", 1)
		}, []int{0}, false},
	} {
		text := triple
		if test.change != nil {
			text = test.change(text)
		}
		g, err := parseGraph(text)
		if err != nil || len(g.bricks) != 3 {
			t.Fatal(err)
		}
		for _, i := range test.down {
			g.bricks[i].problem = "down"
		}
		if got := g.serves(); got != test.want {
			t.Errorf("%v down: serves %t", test.down, got)
		}
	}
}

func TestParseRefusesBadVolfiles(t *testing.T) {
	for _, text := range []string{
		"", "volume a\n", "type x\n", "volume a\nsubvolumes a\nend-volume\n",
		"volume a\nvolume b\nend-volume\n", "volume a\nnonsense\nend-volume\n",
		"volume a\nend-volume\nvolume a\nsubvolumes a\nend-volume\n",
	} {
		if _, err := parseGraph(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// TestUnreachableHosts: a host name does not resolve, a port is closed, and the result comes
// within the limit.
func TestUnreachableHosts(t *testing.T) {
	begin := time.Now()
	_, err := Server{
		Hosts: []string{"no-such-host.invalid", "127.0.0.1"}, Port: 1,
		Volume: "v",
	}.Probe(context.Background())
	if !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "no-such-host.invalid does not resolve") ||
		!strings.Contains(err.Error(), "127.0.0.1: it refuses connections") {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took > ProbeLimit+time.Second {
		t.Errorf("it took %s", took)
	}
}

func FuzzParseGraph(f *testing.F) {
	f.Add(triple)
	f.Fuzz(func(_ *testing.T, text string) {
		if g, err := parseGraph(text); err == nil {
			g.serves()
		}
	})
}
