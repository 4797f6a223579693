package mountinfo

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	text := `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:50 /subvol/a\040b /mnt/with\040space\134 ro,nosuid shared:7 master:2 - fuse.glusterfs fast rw,user_id=0
`
	all, err := parse(strings.NewReader(text))
	want := Mount{Device: "0:50", Root: "/subvol/a b", Target: `/mnt/with space\`, Flags: "ro,nosuid", Shared: true, Type: "fuse.glusterfs", Source: "fast"}
	if err != nil || len(all) != 2 || all[1] != want {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := parse(strings.NewReader("nonsense\n")); err == nil {
		t.Error("nonsense was read")
	}
}

func TestAt(t *testing.T) {
	if m, found, err := At("/proc"); err != nil || !found || m.Type != "proc" {
		t.Errorf("%+v, %t, %v", m, found, err)
	}
	if _, found, err := At("/nothing is mounted here"); err != nil || found {
		t.Errorf("%t, %v", found, err)
	}
}

func TestHolding(t *testing.T) {
	for path, want := range map[string]string{"/proc": "/proc", "/proc/self": "/proc", "/procedure": "/", "/": "/"} {
		if m, err := Holding(path); err != nil || m.Target != want {
			t.Errorf("%s lies in %+v, %v", path, m, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`90 22 0:50 /subvol/a\040b /mnt ro - fuse.glusterfs fast rw`)
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = parse(strings.NewReader(text)) // it must not panic
	})
}
