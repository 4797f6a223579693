package gluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// setVolume is the procedure by which a client begins (GlusterFS 10: GF_HNDSK_SETVOLUME).
// It names programs where it says versions.
const setVolume = 1

// ErrHandshake says that a brick has answered a client's beginning with neither yes nor no.
var ErrHandshake = errors.New("the brick answers with something else")

// AdmittedUsers are those whom a brick's volfile lets in by name; none when it asks for no name.
func AdmittedUsers(volfile string) ([]string, error) {
	g, err := parseGraph(volfile)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, v := range g.order {
		for option, value := range v.options {
			if v.kind == "protocol/server" && strings.HasPrefix(option, "auth.login.") && strings.HasSuffix(option, ".allow") {
				users = append(users, strings.Split(value, ",")...)
			}
		}
	}
	slices.Sort(users)
	return users, nil
}

// Admits tells whether the brick at host:port, of this folder, lets a client in that has
// this user's name and password. It begins as such a client does, and ends.
func Admits(ctx context.Context, address, folder, user string) (bool, error) {
	arguments := oncrpc.Bytes(dictionary(
		"remote-subvolume", folder, "process-uuid", "atoll-"+uuid.NewString(),
		"fops-version", strconv.Itoa(fopProgram), "mgmt-version", strconv.Itoa(handshakeProgram), "username", user, "password", user,
	))
	r, err := oncrpc.Call(ctx, address, handshakeProgram, handshakeVersion, setVolume, arguments)
	if err != nil {
		return false, fmt.Errorf("asking the brick at %s whom it lets in: %w", address, err)
	}
	result, number := int32(r.Number()), r.Number()
	if err := r.Err(); err != nil {
		return false, err
	}
	switch {
	case result >= 0:
		return true, nil
	case syscall.Errno(number) == syscall.EACCES:
		return false, nil
	}
	return false, fmt.Errorf("asking the brick at %s whom it lets in: %w: %w", address, ErrHandshake, syscall.Errno(number))
}
