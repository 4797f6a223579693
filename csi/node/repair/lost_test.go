package repair

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/go-logr/logr/funcr"

	"github.com/atoll-storage/atoll/csi/blockdev"
)

// answers are what a mount server answers, one after the other.
type answers []error

func (a *answers) Lost(context.Context) ([]blockdev.Lost, error) {
	err := (*a)[0]
	*a = (*a)[1:]
	return nil, err
}

// TestSilentMountServer logs a mount server that does not answer once, and once more after it has
// answered in between.
func TestSilentMountServer(t *testing.T) {
	var logged []string
	gone := errors.New("it is gone")
	l := losses{Config: Config{
		Losses: &answers{gone, gone, nil, nil, gone},
		Log:    funcr.New(func(_, args string) { logged = append(logged, args) }, funcr.Options{}),
	}}
	for range 5 {
		l.shutDownAll(t.Context())
	}
	const line = `"level"=0 "msg"="cannot ask the mount server which volumes are lost; trying again" "error"="it is gone"`
	if !slices.Equal(logged, []string{line, line}) {
		t.Errorf("%q", logged)
	}
}
