// Package agent is how the driver speaks to the agents of bricks: one request, in JSON
// over HTTP, that carries proof of who sends it.
package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Port is that of an agent in a brick pod.
const Port = 24010

// PathLimit is where an agent takes a LimitRequest (POST).
const PathLimit = "/v1/limit"

// LimitRequest asks for a volume's folder, a path below the brick, to be held to this
// many bytes of the volume; what that is on one brick the agent knows.
type LimitRequest struct {
	Folder string `json:"folder"`
	Bytes  int64  `json:"bytes"`
}

// LimitAnswer tells whether the brick's file system enforces it.
type LimitAnswer struct {
	Enforced bool `json:"enforced"`
}

// tokenLife is how long a token is good for: long enough for clocks that differ.
const tokenLife = time.Minute

// minKey is the shortest key that is taken, in bytes (RFC 7518, 3.2: as long as the
// hash).
const minKey = 32

// ErrToken says that a request does not prove who sends it.
var ErrToken = errors.New("the request has no token that is good here")

// Keys are those that the driver and the agents share, the newest first.
type Keys [][]byte

// ReadKeys reads the files of a folder, such as a Secret's: every one a key, of which
// the last by name is the newest. Missing or empty folders give none.
func ReadKeys(dir string) (Keys, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keys of the agents: %w", err)
	}
	var keys Keys
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // what a kubelet needs beside them
			continue
		}
		key, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the keys of the agents: %w", err)
		}
		if len(key) < minKey {
			return nil, fmt.Errorf("the key %s of the agents has %d bytes, at least %d are needed", e.Name(), len(key), minKey)
		}
		keys = append(keys, key)
	}
	slices.Reverse(keys)
	return keys, nil
}

// claims are a token's: for one brick, for one request, for a minute.
type claims struct {
	jwt.RegisteredClaims
	Body string `json:"body"` // SHA-256 of the request's body, in hex
}

// Audience names a brick in a token.
func Audience(namespace, pool, position string) string {
	return namespace + "/" + pool + "/" + position
}

// Sign makes the token of a request.
func (k Keys) Sign(audience string, body []byte, now time.Time) (string, error) {
	if len(k) == 0 {
		return "", fmt.Errorf("%w: there is no key to sign with", ErrToken)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		jwt.RegisteredClaims{Audience: jwt.ClaimStrings{audience}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife))}, digest(body),
	})
	return t.SignedString(k[0])
}

// Verify holds a request to its token.
func (k Keys) Verify(token, audience string, body []byte, now time.Time) error {
	err := fmt.Errorf("%w: there is no key to check it with", ErrToken)
	for _, key := range k {
		var c claims
		_, err = jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithAudience(audience), jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(), jwt.WithLeeway(tokenLife/2), jwt.WithTimeFunc(func() time.Time { return now }))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", ErrToken, err)
		case c.Body != digest(body):
			err = fmt.Errorf("%w: it is for another request", ErrToken)
		case c.IssuedAt == nil || c.ExpiresAt.Sub(c.IssuedAt.Time) > tokenLife:
			err = fmt.Errorf("%w: it is good for too long", ErrToken)
		default:
			return nil
		}
	}
	return err
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
