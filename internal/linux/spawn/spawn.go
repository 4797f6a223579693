// Package spawn starts processes that the kernel ends when this process ends.
package spawn

import (
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Start is cmd.Start for commands with a Pdeathsig. The kernel sends that signal when the thread
// that started the process ends, not when the program does, and Go ends threads. So one thread,
// which never ends, starts all processes.
func Start(cmd *exec.Cmd) error {
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

// StartAside is Start in a new mount namespace, in which prepare is called first. done must be
// closed when the command has ended: the thread that started it exists until then.
func StartAside(cmd *exec.Cmd, prepare func() error, done <-chan struct{}) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// /proc/self shows the namespace of the first thread, which must not
			// change. While this goroutine occupies it, the new goroutine runs on
			// another thread.
			defer runtime.UnlockOSThread()
			started <- StartAside(cmd, prepare, done)
			return
		}
		// It stays locked: a thread with its own namespace must end with its goroutine.
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = prepare()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			<-done
		}
	}()
	return <-started
}

var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})
