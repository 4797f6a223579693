package images

import (
	"os"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	stages, err := parse("# a comment\nFROM debian:bookworm-slim AS a\nRUN <<END\none\ntwo\nEND\nFROM scratch AS " +
		"b\nCOPY --from=a \\\n  /x /y\nENTRYPOINT [\"/y\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 2 || stages[0].steps[0].rest != "one\ntwo" || stages[1].steps[0].rest != "--from=a /x /y" ||
		stages[1].steps[0].line != 8 {
		t.Errorf("stages are %+v", stages)
	}
}

// TestParseUnsupported: ignoring an instruction would build another image than docker does.
func TestParseUnsupported(t *testing.T) {
	for text, want := range map[string]string{
		"FROM scratch AS a\nVOLUME /x\n":  "line 2: VOLUME",
		"FROM scratch\n":                  "line 1: want FROM <image> AS <name>",
		"FROM debian:12 AS a\nRUN <<END":  "line 2: the here-document has no end",
		"COPY a b\n":                      "line 1: COPY before the first FROM",
		"FROM scratch AS a\nADD http://x": "line 2: ADD",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestProjectDockerfile: the project's Dockerfile builds all images that its manifests use.
func TestProjectDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, s := range stages {
		have[s.name] = true
	}
	for _, want := range []string{"atoll-gluster", "atoll-brick", "atoll-csi", "atoll-reconciler", "atoll"} {
		if !have[want] {
			t.Errorf("no stage is named %s", want)
		}
	}
}
