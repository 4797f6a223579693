package vm

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
)

// archive writes files in the format of initial ramdisks: cpio with magic 070701 ("newc"), see
// Documentation/driver-api/early-userspace/buffer-format.rst of Linux. The first error is kept
// until close.
type archive struct {
	to      *bufio.Writer
	inode   int
	written int64
	dirs    map[string]bool
	err     error
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

func newArchive(to io.Writer) *archive {
	return &archive{to: bufio.NewWriterSize(to, 1<<20), dirs: map[string]bool{"/": true}}
}

// copy adds a file of the host with the absolute path name.
func (a *archive) copy(name, from string) {
	if a.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		a.err = err
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		a.err = err
		return
	}
	a.entry(name, modeFile|int64(st.Mode().Perm()), st.Size(), f)
}

// add adds a file with this text.
func (a *archive) add(name string, mode int64, text []byte) {
	a.entry(name, modeFile|mode, int64(len(text)), bytes.NewReader(text))
}

// close ends the archive and returns the first error.
func (a *archive) close() error {
	a.header("TRAILER!!!", 0, 0)
	if a.err != nil {
		return a.err
	}
	return a.to.Flush()
}

// entry adds a file after the directories that it is in.
func (a *archive) entry(name string, mode, size int64, content io.Reader) {
	a.parents(name)
	a.header(name[1:], mode, size)
	if a.err == nil {
		var n int64
		if n, a.err = io.CopyN(a.to, content, size); a.err != nil {
			a.err = fmt.Errorf("archive %s: %w", name, a.err)
		}
		a.written += n
	}
	a.pad()
}

func (a *archive) parents(name string) {
	dir := path.Dir(name)
	if a.dirs[dir] {
		return
	}
	a.dirs[dir] = true
	a.parents(dir)
	a.header(dir[1:], modeDir|0o755, 0)
}

// header writes 13 numbers of eight hexadecimal digits, and the name.
func (a *archive) header(name string, mode, size int64) {
	a.inode++
	a.print("070701")
	const owner, group, links, modified, major, minor, check = 0, 0, 1, 0, 0, 0, 0
	for _, n := range []int64{
		int64(a.inode), mode, owner, group, links, modified, size, major, minor, major, minor, int64(len(name)) + 1,
		check,
	} {
		a.print(fmt.Sprintf("%08X", n))
	}
	a.print(name + "\x00")
	a.pad()
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() { a.print("\x00\x00\x00"[:-a.written&3]) }

func (a *archive) print(text string) {
	if a.err == nil {
		_, a.err = a.to.WriteString(text)
		a.written += int64(len(text))
	}
}
