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

// setVolume is the procedure with which a client connects to a brick (GlusterFS 10:
// GF_HNDSK_SETVOLUME). Its "versions" are program numbers.
const setVolume = 1

// ErrHandshake says that a brick has neither admitted nor refused a client.
var ErrHandshake = errors.New("unexpected error from the brick")

// AdmittedUsers are the user names that a brick's volfile admits; none if it requires no name.
func AdmittedUsers(volfile string) ([]string, error) {
	g, err := parseGraph(volfile)
	if err != nil {
		return nil, err
	}
	var users []string
	for _, v := range g.order {
		for option, value := range v.options {
			if v.kind == "protocol/server" && strings.HasPrefix(option, "auth.login.") &&
				strings.HasSuffix(option, ".allow") {
				users = append(users, strings.Split(value, ",")...)
			}
		}
	}
	slices.Sort(users)
	return users, nil
}

// Admits reports whether the brick at host:port, with this directory, admits a client with
// this user name and password. It connects as such a client does, and disconnects.
func Admits(ctx context.Context, address, folder, user string) (bool, error) {
	arguments := oncrpc.Bytes(dictionary(
		"remote-subvolume", folder, "process-uuid", "atoll-"+uuid.NewString(),
		"fops-version", strconv.Itoa(fopProgram), "mgmt-version", strconv.Itoa(handshakeProgram), "username", user,
		"password", user,
	))
	r, err := oncrpc.Call(ctx, address, handshakeProgram, handshakeVersion, setVolume, arguments)
	if err != nil {
		return false, fmt.Errorf("log in to the brick at %s: %w", address, err)
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
	return false, fmt.Errorf("log in to the brick at %s: %w: %w", address, ErrHandshake, syscall.Errno(number))
}
