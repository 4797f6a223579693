package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// tokenLife is how long a token is valid.
	tokenLife = time.Minute
	// tokenLeeway is how much the clocks of caller and agent may differ.
	tokenLeeway = tokenLife / 2
	// idSize is the size of a token's random ID, in bytes: as long as a UUID.
	idSize = 16
	// MaxUsed is how many used tokens an agent remembers, about 3 MiB: a token is remembered for
	// two minutes at most, so this many are 273 requests per second.
	MaxUsed = 1 << 15
	// forgetEvery is how often expired tokens are looked for while the memory is full.
	forgetEvery = time.Second
)

// Errors of verifying a token.
var (
	// ErrToken says that a request has no valid token.
	ErrToken = errors.New("the request has no valid token for this brick")
	// ErrTooMany says that the agent cannot remember another token until some expire.
	ErrTooMany = errors.New("too many requests within two minutes; retry later")
)

// Request is what a token is valid for: one request to one brick.
type Request struct {
	Audience string // the brick, as Audience names it
	Method   string // of HTTP
	Path     string // with the query, if there is one
	Body     []byte
}

// Audience names a brick in a token.
func Audience(namespace, pool, position string) string {
	return namespace + "/" + pool + "/" + position
}

// claims are the claims of a token: for one brick, one request, once, and a minute.
type claims struct {
	jwt.RegisteredClaims
	Method string `json:"method"`
	Path   string `json:"path"`
	Body   string `json:"body"` // SHA-256 of the request's body, in hex
}

// Sign creates a token with which a request can be sent once.
func (k Keys) Sign(q Request, now time.Time) (string, error) {
	if len(k) == 0 {
		return "", fmt.Errorf("%w: no key to sign with; create the Secret atoll-agent-keys", ErrToken)
	}
	id := make([]byte, idSize)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		jwt.RegisteredClaims{
			ID: hex.EncodeToString(id), Audience: jwt.ClaimStrings{q.Audience}, IssuedAt: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)),
		}, q.Method, q.Path, digest(q.Body),
	})
	return t.SignedString(k[0])
}

// verify checks a request against its token, but not whether the token was used before.
func (k Keys) verify(token string, q Request, now time.Time) (c claims, err error) {
	err = fmt.Errorf("%w: no key to verify with", ErrToken)
	for _, key := range k {
		c = claims{}
		_, err = jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithAudience(q.Audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(), jwt.WithLeeway(tokenLeeway), jwt.WithTimeFunc(func() time.Time { return now }))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", ErrToken, err)
		case c.Method != q.Method || c.Path != q.Path || c.Body != digest(q.Body):
			err = fmt.Errorf("%w: the token is for another request", ErrToken)
		case c.IssuedAt == nil || c.ExpiresAt.Sub(c.IssuedAt.Time) > tokenLife:
			err = fmt.Errorf("%w: the token is valid for too long", ErrToken)
		default:
			return c, nil
		}
	}
	return c, err
}

// Verifier accepts every token once. It remembers the tokens of its own time only, so it refuses
// those that were issued before it existed: an earlier one may have accepted them.
type Verifier struct {
	// Max is how many tokens are remembered; NewVerifier sets MaxUsed.
	Max int

	since time.Time

	mu       sync.Mutex
	used     map[[idSize]byte]time.Time // until when the token is valid
	forgotAt time.Time                  // when expired tokens were removed last
}

// NewVerifier returns a Verifier of tokens that are issued from now on.
func NewVerifier(now time.Time) *Verifier {
	return &Verifier{Max: MaxUsed, since: now, used: map[[idSize]byte]time.Time{}, forgotAt: now}
}

// Verify checks a request against its token and marks the token as used. The error is ErrToken,
// or ErrTooMany if the token may be valid, but cannot be remembered now.
func (v *Verifier) Verify(keys Keys, token string, q Request, now time.Time) error {
	c, err := keys.verify(token, q, now)
	if err != nil {
		return err
	}
	id, err := hex.DecodeString(c.ID)
	if err != nil || len(id) != idSize {
		return fmt.Errorf("%w: the token has no ID; upgrade the program that sent it", ErrToken)
	}
	// Ages and not times are compared: with times, setting the clock back would refuse all tokens
	// until it has caught up. Tokens have times in whole seconds.
	if now.Sub(c.IssuedAt.Time) > now.Sub(v.since)+jwt.TimePrecision {
		return fmt.Errorf("%w: the token is older than the agent", ErrToken)
	}
	return v.use([idSize]byte(id), c.ExpiresAt.Add(tokenLeeway), now)
}

// use marks a token as used until it expires.
func (v *Verifier) use(id [idSize]byte, until, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, used := v.used[id]; used {
		return fmt.Errorf("%w: the token was used before", ErrToken)
	}
	if age := now.Sub(v.forgotAt); age > tokenLife || len(v.used) >= v.Max && age >= forgetEvery {
		maps.DeleteFunc(v.used, func(_ [idSize]byte, until time.Time) bool { return now.After(until) })
		v.forgotAt = now
	}
	if len(v.used) >= v.Max {
		return ErrTooMany
	}
	v.used[id] = until
	return nil
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
