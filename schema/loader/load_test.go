package loader

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/atoll-storage/atoll/schema"
)

var update = flag.Bool("update", false, "write what Load reports into testdata")

// TestVet loads the files of each archive in schema/testdata/vet and compares the
// diagnostics with the archive's last file, named want.
func TestVet(t *testing.T) {
	archives, err := filepath.Glob("../testdata/vet/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, want := archive.Files, ""
			if last := len(files) - 1; files[last].Name == "want" {
				files, want = files[:last], string(files[last].Data)
			}
			dir := t.TempDir()
			for _, f := range files {
				write(t, filepath.Join(dir, f.Name), string(f.Data))
			}
			got := strings.ReplaceAll(output(t, read(t, dir)), dir+"/", "")
			if *update {
				archive.Files = append(files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("Load reports:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, paths ...string) *Result {
	t.Helper()
	r, err := Load(context.Background(), Options{}, paths...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// output formats diagnostics and counts.
func output(t *testing.T, r *Result) string {
	t.Helper()
	var b strings.Builder
	for _, d := range r.Diagnostics {
		fmt.Fprintln(&b, d)
	}
	valid := 0
	for _, d := range r.Documents {
		if d.Valid {
			valid++
		}
	}
	fmt.Fprintf(&b, "%d pools, %d valid, %d classes, %d others\n", len(r.Documents), valid, len(r.Classes), r.Others)
	return b.String()
}

func TestExamplesAreClean(t *testing.T) {
	r := read(t, "../../examples")
	if len(r.Documents) != 14 || len(r.Diagnostics) != 0 {
		t.Errorf("examples: %s", output(t, r))
	}
}

// TestKadaluDocuments checks that every document that Kadalu and gluster-block published
// converts without an error.
func TestKadaluDocuments(t *testing.T) {
	for _, pattern := range []string{"../testdata/kadalu/*.yaml", "../testdata/seeds/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no documents match %s", pattern)
		}
		for _, f := range files {
			r := read(t, f)
			for _, d := range r.Diagnostics {
				if d.Severity == schema.SeverityError || d.Position.Line == 0 {
					t.Errorf("%s", d)
				}
			}
			if len(r.Documents)+len(r.Classes)+r.Others == 0 {
				t.Errorf("%s: no document found", f)
			}
			for _, c := range r.Classes {
				if c.Converted == nil || c.Converted.Provisioner != schema.DriverName {
					t.Errorf("%s: class %s is not converted", f, c.Name)
				}
			}
		}
	}
}

// TestBadFiles checks that a broken or hostile file leads to a clear diagnostic.
func TestBadFiles(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1,
			c-1,
			c-1)
	}
	for name, test := range map[string]struct{ file, text, want string }{
		"malformed":   {"a.yaml", "kind: StoragePool\nspec: [\n", "a.yaml:3:1: invalid YAML"},
		"tab":         {"a.yaml", "kind: StoragePool\nspec:\n\ttype: Replica1\n", "a.yaml:3:1: invalid YAML"},
		"second of 2": {"a.yaml", "a: 1\n---\nkind: StoragePool\nb: ]\n", "a.yaml:4:1: invalid YAML"},
		"deep":        {"a.yaml", "kind: StoragePool\nspec: " + deep, "nested deeper than 64"},
		"bomb": {
			"a.yaml", "kind: StoragePool\nspec:\n  " + strings.ReplaceAll(bomb, "\n", "\n  "),
			"more than 100000 values",
		},
		"itself": {"a.yaml", "kind: StoragePool\nspec: &s {bricks: *s}\n", "nested deeper than 64"},
		"latin-1": {
			"a.yaml", "kind: StoragePool\nmetadata: {name: caf\xe9}\n",
			"a.yaml:2:21: the byte 0xe9 is not UTF-8",
		},
		"utf-16": {"a.yaml", "\xff\xfek\x00", "a.yaml:1:1: the file is UTF-16"},
		"nul": {
			"a.yaml", "kind: Storage\x00Pool\n",
			"a.yaml:1:14: the file contains the control character 0x0",
		},
		"json":         {"a.json", "{\"kind\": \"StoragePool\",\n \"spec\": }", "a.json:2:10: invalid JSON"},
		"json end":     {"a.json", "{\"kind\": \"StoragePool\",\n", "invalid JSON"},
		"json deep":    {"a.json", deep, "nested deeper than 64"},
		"cue":          {"a.cue", "kind: \"StoragePool\"\nspec: type: 1 & 2\n", "a.cue:2:"},
		"cue syntax":   {"a.cue", "kind: {\n", "invalid CUE"},
		"cue imports":  {"a.cue", "import \"example.org/x\"\nkind: x.kind\n", "invalid CUE"},
		"only aliases": {"a.yaml", "*a", "invalid YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, test.file), test.text)
			if got := output(t, read(t, dir)); !strings.Contains(got, test.want) {
				t.Errorf("Load reports %q, want %q", got, test.want)
			}
		})
	}
}

func TestBigFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "big.yaml")
	write(t, p, "kind: StoragePool\n")
	if err := os.Truncate(p, 100<<20); err != nil { // sparse: 100 MB of NUL
		t.Fatal(err)
	}
	if got := output(t, read(t, p)); !strings.Contains(got, "larger than 16 MiB") {
		t.Errorf("Load reports %q", got)
	}
}

// TestSpecialFiles covers symbolic link loops, unreadable directories and pipes.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pools/a.yaml"), smallPool)
	for link, target := range map[string]string{
		"pools/loop": "..", "pools/self": "self",
		"again.yaml": "pools/a.yaml",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(output(t, read(t, dir)), dir+"/", "")
	want := "pools/self: cannot be read: too many levels of symbolic links; check that it exists and is readable\n" +
		"1 pools, 1 valid, 0 classes, 0 others\n"
	if got != want {
		t.Errorf("Load reports %q, want %q", got, want)
	}
	if _, err := Load(context.Background(), Options{}, filepath.Join(dir, "none")); err == nil {
		t.Error("a path that does not exist was accepted")
	}
	if err := os.Chmod(filepath.Join(dir, "pools"), 0); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		if got := output(t, read(t, dir)); !strings.Contains(got, "pools: cannot be read: permission denied") {
			t.Errorf("Load reports %q", got)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "pools"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Load(ctx, Options{}, "../../examples"); err == nil {
		t.Error("no error")
	}
}

// smallPool is a small valid pool.
const smallPool = `apiVersion: atoll.storage/v1alpha1
kind: StoragePool
metadata: {name: a}
spec: {type: Replica1, bricks: [{node: kube1, path: /srv/a}]}
`

// FuzzLoad checks that no input makes Load fail or hang, and that every diagnostic has a
// message and a file.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"../testdata/kadalu/*.yaml", "../../examples/pools/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			if text, err := os.ReadFile(name); err == nil {
				f.Add(string(text))
			}
		}
	}
	f.Add("kind: StoragePool\nspec: &s {bricks: *s, <<: *s}\n---\n- 1\n...\n" +
		"%YAML 1.2\n--- {kind: List, apiVersion: v1, items: [1]}")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Load(context.Background(), Options{Stdin: strings.NewReader(text)}, "-")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range r.Diagnostics {
			if d.Message == "" || d.Position.File == "" {
				t.Errorf("an empty diagnostic: %+v", d)
			}
		}
		l := &load{result: &Result{}}
		l.jsonFile([]byte(text), origin{file: "f"})
	})
}
