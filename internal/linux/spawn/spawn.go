// Package spawn starts processes that the kernel ends when this one does.
package spawn

import (
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Start is cmd.Start for commands with a Pdeathsig: the kernel sends that signal
// when the thread that started the process ends, not when the program does, and
// Go ends threads. So one thread starts them all, and lasts.
func Start(cmd *exec.Cmd) error {
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

// StartAside is Start in a mount namespace of the command's own, after prepare has
// changed there what it wants. done must be closed when the command has ended: the
// thread that started it lasts until then.
func StartAside(cmd *exec.Cmd, prepare func() error, done <-chan struct{}) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread's namespace is what /proc/self shows of the
			// program: it stays as it is. While it is held here, another has
			// the work.
			defer runtime.UnlockOSThread()
			started <- StartAside(cmd, prepare, done)
			return
		}
		// Locked for ever: a thread that is not like the others ends with its goroutine.
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
