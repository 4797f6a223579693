package gluster

import (
	"strings"
	"testing"
)

func TestConnection(t *testing.T) {
	c := connection(2, []byte(`[xlator.protocol.client.p-client-2.priv]
fd.0.remote_fd = -1
granted-posix-lock[0] = owner = cec4, cmd = F_SETLK fl_type = F_WRLCK
fd.1.remote_fd = 4
fd.2.remote_fd = -1
connected = 1
total_bytes_read = 1
`))
	if c != (Connection{Brick: 2, Connected: true, Lost: 2, Open: 1}) {
		t.Errorf("%+v", c)
	}
	if c := connection(0, []byte("connected = 0\n")); c.Connected || c.Lost != 0 {
		t.Errorf("%+v", c)
	}
}

func TestRenameTop(t *testing.T) {
	const text = "volume p-client-0\n    type protocol/client\nend-volume\n\nvolume p\n    type debug/io-stats\n    subvolumes p-client-0\nend-volume\n"
	if got := RenameTop(text, 0); got != text {
		t.Error(got)
	}
	got := RenameTop(text, 7)
	if want := strings.Replace(text, "\nvolume p\n", "\nvolume p-7\n", 1); got != want {
		t.Error(got)
	}
	if _, err := parseGraph(got); err != nil {
		t.Error(err)
	}
}
