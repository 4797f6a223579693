package vm

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

//go:embed init.sh
var initScript []byte

// programs are copied from the host, with the libraries that they load. All other programs are
// those of busybox.
var programs = []string{"insmod", "mkfs.xfs", "gluster", "glusterd", "glusterfs", "glusterfsd"}

// rootImage is the file system with which all virtual machines of this process start. It is made
// once, in a file without a name.
var rootImage = sync.OnceValues(func() (*os.File, error) {
	f, err := scratch(0)
	if err != nil {
		return nil, err
	}
	if err := writeRoot(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("make file system of virtual machines: %w; run make deps", err)
	}
	return f, nil
})

func writeRoot(f *os.File) error {
	test, err := os.Executable()
	if err != nil {
		return err
	}
	k, err := findKernel()
	if err != nil {
		return err
	}
	loaded, err := k.moduleFiles()
	if err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	copied, err := hostFiles(test)
	if err != nil {
		return err
	}
	a := newArchive(f)
	a.add("/init", 0o755, initScript)
	a.copy("/bin/busybox", busybox)
	a.copy("/test", test)
	for i, path := range loaded {
		a.copy(fmt.Sprintf("/modules/%02d-%s", i, filepath.Base(path)), path) // in the order of loading
	}
	for _, path := range copied {
		a.copy(path, path)
	}
	return a.close()
}

// hostFiles lists the host's files that have the same path inside: programs, the plugins of
// GlusterFS, and the libraries of all of them and of the test.
func hostFiles(test string) ([]string, error) {
	var files []string
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	xlators, err := exec.Command("glusterfs", "--print-xlatordir").Output()
	if err != nil {
		return nil, fmt.Errorf("ask glusterfs for its plugins: %w", err)
	}
	plugins := filepath.Dir(strings.TrimSpace(string(xlators))) // with transports and authentication beside
	err = filepath.WalkDir(plugins, func(path string, _ os.DirEntry, err error) error {
		if filepath.Ext(path) == ".so" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	needed, err := libraries(append([]string{test}, files...))
	return append(files, needed...), err
}

// library is a path in a line of ldd: "libc.so.6 => /lib/libc.so.6 (0x0)", "/lib64/ld.so (0x0)".
var library = regexp.MustCompile(`(?m)^\s+(?:\S+ => )?(/\S+) \(0x`)

// libraries lists what the dynamic linker loads with these files.
func libraries(files []string) ([]string, error) {
	// It exits with 1 if any file is static, and names it.
	out, _ := exec.Command("ldd", files...).Output()
	var paths []string
	seen := map[string]bool{}
	for _, match := range library.FindAllStringSubmatch(string(out), -1) {
		if path := match[1]; !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("list libraries with ldd: it named none: %s", out)
	}
	return paths, nil
}
