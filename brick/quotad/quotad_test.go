package quotad

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// glusterd writes files in the form of glusterd 10.3.
func glusterd(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLocalBricks(t *testing.T) {
	files := map[string]string{
		"glusterd.info":            "UUID=me\noperating-version=100000\n",
		"vols/d/info":              "type=4\nstatus=1\ndisperse_count=3\nredundancy_count=1\n",
		"vols/d/bricks/a:-srv-0":   "uuid=me\nhostname=a\npath=/srv/0\nbrick-id=d-client-0\n",
		"vols/d/bricks/b:-srv-1":   "uuid=other\nhostname=b\npath=/srv/1\nbrick-id=d-client-1\n",
		"vols/d/bricks/a:-srv-2":   "uuid=me\nhostname=a\npath=/srv/2\nbrick-id=d-client-2\n",
		"vols/arb/info":            "type=2\nstatus=1\nreplica_count=3\narbiter_count=1\n",
		"vols/arb/bricks/a:-srv-a": "uuid=me\npath=/srv/a\nbrick-id=arb-client-0\n",
		"vols/off/info":            "type=2\nstatus=2\nreplica_count=3\n",
		"vols/off/bricks/a:-srv-o": "uuid=me\npath=/srv/o\nbrick-id=off-client-0\n",
	}
	dir := glusterd(t, files)
	d0, d2 := brick{"d", "0", "/srv/0", 2, false}, brick{"d", "2", "/srv/2", 2, false}
	arb := brick{"arb", "0", "/srv/a", 1, true}
	for _, test := range []struct {
		volumes []string
		want    []brick
		trouble string
	}{
		{nil, []brick{arb, d0, d2}, ""},
		{[]string{"d"}, []brick{d0, d2}, ""},
		{[]string{"off"}, nil, ""},
		{[]string{"d", "none"}, []brick{d0, d2}, "volume none: glusterd has no volume of this name"},
	} {
		got, err := localBricks(dir, test.volumes)
		if !slices.Equal(got, test.want) || (err == nil) != (test.trouble == "") ||
			err != nil && !strings.Contains(err.Error(), test.trouble) {
			t.Errorf("%v: %v, %v", test.volumes, got, err)
		}
	}
	// An error in one volume's files does not hide the others.
	for name, text := range map[string]string{
		"vols/d/info":            "status=1\ndisperse_count=1\nredundancy_count=1\n",
		"vols/d/bricks/a:-srv-0": "uuid=me\npath=srv/0\nbrick-id=d-client-0\n",
	} {
		changed := map[string]string{}
		for k, v := range files {
			changed[k] = v
		}
		changed[name] = text
		got, err := localBricks(glusterd(t, changed), nil)
		if err == nil || !strings.Contains(err.Error(), "volume d: ") || !slices.Contains(got, arb) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, dir := range []string{
		filepath.Join(dir, "none"), t.TempDir(),
		glusterd(t, map[string]string{"glusterd.info": "x"}),
	} {
		if got, err := localBricks(dir, nil); err == nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", dir, got, err)
		}
	}
}

func TestConfig(t *testing.T) {
	c, err := ReadConfig("../../examples/quotad/quotad.yaml")
	if err != nil || c.Every != 10*time.Second || !slices.Equal(c.Volumes, []string{"vol1"}) ||
		c.Glusterd != DefaultGlusterd || c.Listen != DefaultListen {
		t.Errorf("the example: %+v, %v", c, err)
	}
	path := filepath.Join(t.TempDir(), "quotad.yaml")
	for text, want := range map[string]string{
		"": "", "volume: [a]": "field volume not found",
		"every: 1ms": "the minimum is 1s", "every: often": "cannot unmarshal",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadConfig(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestUnit verifies the unit with systemd itself.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	text, err := os.ReadFile("../../examples/quotad/atoll-quotad.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program and the units it refers to are not installed on the test machine.
	unit := strings.NewReplacer("/usr/sbin/atoll-brick", "/bin/true", "glusterd.service ", "",
		"Wants=glusterd.service\n", "").Replace(string(text))
	path := filepath.Join(t.TempDir(), "atoll-quotad.service")
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
