package supervise

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Program is the name under which Install copies the running program.
const Program = "atoll-brick"

// Install copies the running program, which is linked statically, into a directory: the image of
// GlusterFS, which may be anybody's, does not have it. A container that is started again while its
// daemon runs from the copy finds the former or the new one.
func Install(dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("install the supervisor in %s: %w", dir, err)
		}
	}()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, Program+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name()) // fails once it is renamed
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.Chmod(0o755); err != nil {
		return err
	}
	if err := to.Close(); err != nil { // a file that is open for writing cannot be executed
		return err
	}
	return os.Rename(to.Name(), filepath.Join(dir, Program))
}
