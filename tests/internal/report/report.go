// Package report writes measured tables into pages of docs, with the machine and the commit that
// they were measured on. A page has a place for each table:
//
//	<!-- begin NAME: written by make bench -->
//	<!-- end NAME -->
package report

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Write replaces the text between the markers of a name in a page, with the table and a line that
// says where it was measured.
func Write(page, name, table string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("write the table %s: %w", name, err)
	}
	where, err := measuredOn()
	if err != nil {
		return fmt.Errorf("write the table %s: %w", name, err)
	}
	changed, err := replace(string(text), name, strings.TrimSpace(table)+"\n\n"+where+"\n")
	if err != nil {
		return fmt.Errorf("write %s: %w", page, err)
	}
	return os.WriteFile(page, []byte(changed), 0o644)
}

// replace replaces what is between the markers of a name.
func replace(page, name, text string) (string, error) {
	begin := regexp.MustCompile(`(?m)^<!-- begin `+regexp.QuoteMeta(name)+`:.*-->\n`).FindAllStringIndex(page, -1)
	end := "<!-- end " + name + " -->\n"
	if len(begin) != 1 {
		return "", fmt.Errorf("%d markers 'begin %s', want 1", len(begin), name)
	}
	before, rest := page[:begin[0][1]], page[begin[0][1]:]
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("no marker 'end %s' after its begin", name)
	}
	return before + "\n" + text + "\n" + end + after, nil
}

// measuredOn describes this machine and the commit that is checked out.
func measuredOn() (string, error) {
	commit, err := git("rev-parse", "--short=10", "HEAD")
	if err != nil {
		return "", err
	}
	if changed, err := git("status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)docs"); err != nil {
		return "", err
	} else if changed != "" {
		commit += " with changes"
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "", err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	return describe(commit, time.Now(), string(cpuinfo), string(meminfo), string(kernel), runtime.NumCPU()), nil
}

// describe is the line below a table.
func describe(commit string, at time.Time, cpuinfo, meminfo, kernel string, cores int) string {
	model := "unknown processor"
	if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindStringSubmatch(cpuinfo); m != nil {
		model = strings.Join(strings.Fields(m[1]), " ")
	}
	memory := 0.0
	_, _ = fmt.Sscanf(meminfo, "MemTotal: %f kB", &memory) // 0 if the kernel does not report it
	return fmt.Sprintf("Measured on %s at commit %s: %d cores of %s, %.0f GiB of memory, Linux %s, %s.",
		at.UTC().Format(time.DateOnly), commit, cores, model, memory/(1<<20), strings.TrimSpace(kernel),
		runtime.Version())
}

func git(args ...string) (string, error) {
	out, err := exec.Command("git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Table builds a Markdown table.
type Table struct{ b strings.Builder }

// Head starts a table with the titles of its columns; those after the first count columns of text
// are aligned right.
func Head(text int, titles ...string) *Table {
	t := &Table{}
	t.Row(titles...)
	for i := range titles {
		if i < text {
			t.b.WriteString("| --- ")
		} else {
			t.b.WriteString("| ---: ")
		}
	}
	t.b.WriteString("|\n")
	return t
}

// Row adds a row.
func (t *Table) Row(cells ...string) {
	t.b.WriteString("|")
	for _, c := range cells {
		t.b.WriteString(" " + c + " |")
	}
	t.b.WriteString("\n")
}

// String is the table's text.
func (t *Table) String() string { return t.b.String() }
