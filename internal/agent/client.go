package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// maxAnswer is the largest response that is read, in bytes.
const maxAnswer = 4 << 20

// ErrRefused says that an agent has responded with an error.
var ErrRefused = errors.New("the agent refused the request")

// Client sends requests to agents.
type Client struct{ http http.Client }

// Status requests the state of a brick from its agent at host:port.
func (c *Client) Status(ctx context.Context, address string) (Status, error) {
	var s Status
	var from string
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		from, _, _ = net.SplitHostPort(i.Conn.RemoteAddr().String())
	}})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+PathStatus, nil)
	if err != nil {
		return s, err
	}
	err = c.do(r, &s)
	s.Address = from
	return s, err
}

// StatusResult is the response of one of several agents, or the error.
type StatusResult struct {
	Status
	Err error
}

// Statuses queries several agents concurrently, and returns their responses in the same order.
func (c *Client) Statuses(ctx context.Context, addresses ...string) []StatusResult {
	answers := make([]StatusResult, len(addresses))
	var wait sync.WaitGroup
	for i, address := range addresses {
		wait.Go(func() { answers[i].Status, answers[i].Err = c.Status(ctx, address) })
	}
	wait.Wait()
	return answers
}

// Leftover requests the number of files on a brick.
func (c *Client) Leftover(ctx context.Context, address, audience string, keys Keys) (Leftover, error) {
	var l Leftover
	return l, c.send(ctx, address, Request{Audience: audience, Method: http.MethodGet, Path: PathLeftover}, keys, &l)
}

// Layout makes an agent record a layout.
func (c *Client) Layout(ctx context.Context, address, audience string, q LayoutRequest, keys Keys) error {
	return c.post(ctx, address, PathLayout, audience, q, keys, nil)
}

// Limit makes an agent enforce the size of a volume. Audience names the agent's brick.
func (c *Client) Limit(ctx context.Context, address, audience string, q LimitRequest, keys Keys) (LimitAnswer, error) {
	var a LimitAnswer
	return a, c.post(ctx, address, PathLimit, audience, q, keys, &a)
}

// Heal makes an agent start a heal.
func (c *Client) Heal(ctx context.Context, address, audience string, q HealRequest, keys Keys) error {
	return c.post(ctx, address, PathHeal, audience, q, keys, nil)
}

// Pending lists the entries for which a brick has pending counters set for others.
func (c *Client) Pending(ctx context.Context, address, audience string, q PendingRequest, keys Keys) (Pending, error) {
	var p Pending
	return p, c.post(ctx, address, PathPending, audience, q, keys, &p)
}

// ClearPending clears pending counters that a brick has set for another.
func (c *Client) ClearPending(ctx context.Context, address, audience string, q ClearPendingRequest, keys Keys) error {
	return c.post(ctx, address, PathForgive, audience, q, keys, nil)
}

func (c *Client) post(ctx context.Context, address, path, audience string, request any, keys Keys, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	q := Request{Audience: audience, Method: http.MethodPost, Path: path, Body: body}
	return c.send(ctx, address, q, keys, answer)
}

// send sends a request with a token of its own: a repeated request needs another one.
func (c *Client) send(ctx context.Context, address string, q Request, keys Keys, answer any) error {
	token, err := keys.Sign(q, time.Now())
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, "http://"+address+q.Path, bytes.NewReader(q.Body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if len(q.Body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	return c.do(r, answer)
}

func (c *Client) do(r *http.Request, answer any) error {
	// Resolve the name for each request: a kept connection would lead to the agent of a brick that
	// was replaced, for as long as that one runs.
	r.Close = true
	a, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case a.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: %s: %s", ErrRefused, a.Status, strings.TrimSpace(string(text)))
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("parse the agent's response: %w", err)
	}
	return nil
}
