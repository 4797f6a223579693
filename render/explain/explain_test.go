package explain_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/render/explain"
	"github.com/atoll-storage/atoll/schema/loader"
)

var update = flag.Bool("update", false, "write the explanations into testdata")

func TestExamples(t *testing.T) {
	r, err := loader.Load(context.Background(), loader.Options{}, "../../examples/pools")
	if err != nil || len(r.Documents) == 0 {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range r.Documents {
		b.WriteString(explain.Explain(d.Pool).String())
	}
	if *update {
		if err := os.WriteFile("testdata/examples.txt", []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/examples.txt")
	if err != nil || b.String() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}
