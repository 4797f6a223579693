// Package agent is the protocol between the driver and the agents of bricks, and between
// agents: JSON over HTTP. Requests that change something carry a token.
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

// Port is the port of an agent in a brick pod.
const Port = 24010

// PathLimit accepts a LimitRequest (POST).
const PathLimit = "/v1/limit"

// LimitRequest requests that a volume is limited to a size. Folder is the volume's path
// below the brick, Bytes the size of the volume; the agent derives the brick's share.
type LimitRequest struct {
	Folder string `json:"folder"`
	Bytes  int64  `json:"bytes"`
}

// LimitAnswer reports whether the brick's file system enforces the limit.
type LimitAnswer struct {
	Enforced bool `json:"enforced"`
}

// tokenLife is how long a token is valid: long enough for clocks that differ.
const tokenLife = time.Minute

// minKey is the shortest accepted key, in bytes (RFC 7518, 3.2: as long as the hash).
const minKey = 32

// ErrToken says that a request has no valid token.
var ErrToken = errors.New("the request has no valid token for this brick")

// Keys are the keys that the driver and the agents share, the newest first.
type Keys [][]byte

// ReadKeys reads the keys in a directory, such as a mounted Secret. Each file is a key; the
// last by name is the newest. A missing or empty directory has no keys.
func ReadKeys(dir string) (Keys, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the agents' keys: %w", err)
	}
	var keys Keys
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // the kubelet's own links
			continue
		}
		key, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the agents' keys: %w", err)
		}
		if len(key) < minKey {
			return nil, fmt.Errorf("read the agents' keys: %s has %d bytes, at least %d are needed", e.Name(), len(key),
				minKey)
		}
		keys = append(keys, key)
	}
	slices.Reverse(keys)
	return keys, nil
}

// claims are the claims of a token: for one brick, one request, and a minute.
type claims struct {
	jwt.RegisteredClaims
	Body string `json:"body"` // SHA-256 of the request's body, in hex
}

// Audience names a brick in a token.
func Audience(namespace, pool, position string) string {
	return namespace + "/" + pool + "/" + position
}

// Sign creates the token of a request.
func (k Keys) Sign(audience string, body []byte, now time.Time) (string, error) {
	if len(k) == 0 {
		return "", fmt.Errorf("%w: no key to sign with", ErrToken)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		jwt.RegisteredClaims{
			Audience: jwt.ClaimStrings{audience}, IssuedAt: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
		}, digest(body),
	})
	return t.SignedString(k[0])
}

// Verify checks a request against its token.
func (k Keys) Verify(token, audience string, body []byte, now time.Time) error {
	err := fmt.Errorf("%w: no key to verify with", ErrToken)
	for _, key := range k {
		var c claims
		_, err = jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithAudience(audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(), jwt.WithLeeway(tokenLife/2), jwt.WithTimeFunc(func() time.Time { return now }))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", ErrToken, err)
		case c.Body != digest(body):
			err = fmt.Errorf("%w: the token is for another request", ErrToken)
		case c.IssuedAt == nil || c.ExpiresAt.Sub(c.IssuedAt.Time) > tokenLife:
			err = fmt.Errorf("%w: the token is valid for too long", ErrToken)
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
