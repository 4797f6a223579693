package driver

import "sync"

// locks lets one call at a time work on a volume. Others are told to come again,
// as the specification wants it, rather than to wait.
type locks struct {
	mu   sync.Mutex
	held map[string]bool
}

// take gives the function that lets go, or errBusy.
func (l *locks) take(key string) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key] {
		return nil, errBusy
	}
	if l.held == nil {
		l.held = map[string]bool{}
	}
	l.held[key] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, key)
	}, nil
}
