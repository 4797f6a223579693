package agent

import (
	"bytes"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var (
	now  = time.Unix(1_800_000_000, 0)
	key  = bytes.Repeat([]byte("k"), minKey)
	body = []byte(`{"folder":"subvol/aa/bb/v","bytes":1}`)
	// request is what the tokens of these tests are for.
	request = Request{Audience: "n/p/0", Method: http.MethodPost, Path: PathLimit, Body: body}
)

// changed is a request that differs from another one.
func changed(q Request, change func(*Request)) Request {
	change(&q)
	return q
}

// signed creates a token with any claims.
func signed(t *testing.T, method jwt.SigningMethod, c jwt.Claims, key any) string {
	t.Helper()
	text, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// goodClaims are the claims of a token for request.
func goodClaims(issued, expires time.Time) claims {
	return claims{jwt.RegisteredClaims{
		ID: strings.Repeat("0a", idSize), Audience: jwt.ClaimStrings{request.Audience},
		IssuedAt: jwt.NewNumericDate(issued), ExpiresAt: jwt.NewNumericDate(expires),
	}, request.Method, request.Path, digest(request.Body)}
}

// formerClaims are the claims of a token before tokens named a method, a path and an ID.
type formerClaims struct {
	jwt.RegisteredClaims
	Body string `json:"body"`
}

// TestTokens: a token is valid for one request to one brick, for a minute.
func TestTokens(t *testing.T) {
	good, err := Keys{key}.Sign(request, now)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Repeat([]byte("o"), minKey)
	hs := jwt.SigningMethodHS256
	one := goodClaims(now, now.Add(tokenLife))
	without := func(change func(*claims)) string {
		c := one
		change(&c)
		return signed(t, hs, c, key)
	}
	for name, test := range map[string]struct {
		keys  Keys
		token string
		q     Request
		at    time.Time
		good  bool
	}{
		"good":              {Keys{key}, good, request, now, true},
		"good, made here":   {Keys{key}, signed(t, hs, one, key), request, now, true},
		"during rotation":   {Keys{other, key}, good, request, now, true},
		"clocks differ":     {Keys{key}, good, request, now.Add(-20 * time.Second), true},
		"expired":           {Keys{key}, good, request, now.Add(2 * time.Minute), false},
		"of the future":     {Keys{key}, good, request, now.Add(-time.Hour), false},
		"for other brick":   {Keys{key}, good, changed(request, func(q *Request) { q.Audience = "n/p/1" }), now, false},
		"for other method":  {Keys{key}, good, changed(request, func(q *Request) { q.Method = "GET" }), now, false},
		"for other path":    {Keys{key}, good, changed(request, func(q *Request) { q.Path = PathPending }), now, false},
		"with a query":      {Keys{key}, good, changed(request, func(q *Request) { q.Path += "?all" }), now, false},
		"for other body":    {Keys{key}, good, changed(request, func(q *Request) { q.Body = body[1:] }), now, false},
		"without a body":    {Keys{key}, good, changed(request, func(q *Request) { q.Body = nil }), now, false},
		"with other key":    {Keys{other}, good, request, now, false},
		"without keys":      {nil, good, request, now, false},
		"missing":           {Keys{key}, "", request, now, false},
		"garbage":           {Keys{key}, "a.b.c", request, now, false},
		"other algorithm":   {Keys{key}, signed(t, jwt.SigningMethodHS512, one, key), request, now, false},
		"without an ID":     {Keys{key}, without(func(c *claims) { c.ID = "" }), request, now, false},
		"with a short ID":   {Keys{key}, without(func(c *claims) { c.ID = "0a" }), request, now, false},
		"with a long ID":    {Keys{key}, without(func(c *claims) { c.ID += "0a" }), request, now, false},
		"without a method":  {Keys{key}, without(func(c *claims) { c.Method = "" }), request, now, false},
		"without a path":    {Keys{key}, without(func(c *claims) { c.Path = "" }), request, now, false},
		"without an issue":  {Keys{key}, without(func(c *claims) { c.IssuedAt = nil }), request, now, false},
		"without an expiry": {Keys{key}, without(func(c *claims) { c.ExpiresAt = nil }), request, now, false},
		"good for a year": {
			Keys{key}, signed(t, hs, goodClaims(now, now.Add(time.Hour*8760)), key), request, now, false,
		},
		"unsigned": {
			Keys{key}, signed(t, jwt.SigningMethodNone, one, jwt.UnsafeAllowNoneSignatureType), request, now, false,
		},
		"of the former version": {
			Keys{key}, signed(t, hs, formerClaims{one.RegisteredClaims, digest(body)}, key), request, now, false,
		},
	} {
		// The verifier is older than any of the tokens.
		err := NewVerifier(now.Add(-24*time.Hour)).Verify(test.keys, test.token, test.q, test.at)
		if (err == nil) != test.good || err != nil && !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSignWithoutKey: the error names the Secret that is missing.
func TestSignWithoutKey(t *testing.T) {
	if _, err := (Keys{}).Sign(request, now); !errors.Is(err, ErrToken) ||
		!strings.Contains(err.Error(), "atoll-agent-keys") {
		t.Errorf("signed without a key: %v", err)
	}
}

// TestTokenIsUsedOnce: a token is accepted once for as long as it is valid, also when many
// present it at the same time, and by no verifier that is younger.
func TestTokenIsUsedOnce(t *testing.T) {
	v := NewVerifier(now)
	token, err := Keys{key}.Sign(request, now)
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int32
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if v.Verify(Keys{key}, token, request, now) == nil {
				accepted.Add(1)
			}
		})
	}
	wait.Wait()
	if n := accepted.Load(); n != 1 {
		t.Errorf("the token was accepted %d times", n)
	}
	// At the last moment, after other tokens made the verifier forget what has expired.
	for _, age := range []time.Duration{time.Second, tokenLife, tokenLife + tokenLeeway - time.Second} {
		if err := v.use([idSize]byte{byte(age / time.Second)}, now.Add(age), now.Add(age)); err != nil {
			t.Error(err)
		}
		if err := v.Verify(Keys{key}, token, request, now.Add(age)); !errors.Is(err, ErrToken) {
			t.Errorf("used again after %s: %v", age, err)
		}
	}
	// Refused requests use no token up.
	token, err = Keys{key}.Sign(request, now)
	if err != nil {
		t.Fatal(err)
	}
	other := changed(request, func(q *Request) { q.Path = PathHeal })
	if err := v.Verify(Keys{key}, token, other, now); !errors.Is(err, ErrToken) {
		t.Errorf("for another path: %v", err)
	}
	if err := v.Verify(Keys{key}, token, request, now); err != nil {
		t.Errorf("after it was refused for another path: %v", err)
	}
	// The agent was restarted: what it accepted before is not known.
	if err := NewVerifier(now.Add(5*time.Second)).Verify(Keys{key}, token, request,
		now.Add(6*time.Second)); !errors.Is(err, ErrToken) {
		t.Errorf("used again after a restart: %v", err)
	}
}

// TestMemoryOfTokensIsBounded: when the memory is full of valid tokens, all others are refused
// until some expire.
func TestMemoryOfTokensIsBounded(t *testing.T) {
	v := NewVerifier(now)
	id := func(n int) (id [idSize]byte) {
		id[0], id[1], id[2] = byte(n), byte(n>>8), byte(n>>16)
		return id
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range MaxUsed {
		if err := v.use(id(n), now.Add(tokenLife), now); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d tokens take %d KiB", MaxUsed, (after.HeapAlloc-before.HeapAlloc)>>10)
	token, err := Keys{key}.Sign(request, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, time.Second, tokenLife / 2} {
		if err := v.Verify(Keys{key}, token, request, now.Add(age)); !errors.Is(err, ErrTooMany) ||
			errors.Is(err, ErrToken) {
			t.Errorf("with a full memory, after %s: %v", age, err)
		}
		if err := v.use(id(7), now.Add(tokenLife), now.Add(age)); !errors.Is(err, ErrToken) {
			t.Errorf("used again with a full memory, after %s: %v", age, err)
		}
	}
	if len(v.used) != MaxUsed {
		t.Errorf("%d tokens are remembered", len(v.used))
	}
	later := now.Add(tokenLife + time.Second)
	if err := v.Verify(Keys{key}, token, request, later); err != nil {
		t.Errorf("after the others have expired: %v", err)
	}
	if len(v.used) != 1 {
		t.Errorf("%d tokens are remembered after they have expired", len(v.used))
	}
}
