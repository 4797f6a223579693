package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxAnswer is the longest answer that is read, in bytes.
const maxAnswer = 4 << 20

// ErrRefused says that an agent has answered, and not done what it was asked for.
var ErrRefused = errors.New("the agent refuses")

// Client asks agents.
type Client struct{ http http.Client }

// Status asks an agent, at host:port, how its brick is.
func (c *Client) Status(ctx context.Context, address string) (Status, error) {
	var s Status
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+PathStatus, nil)
	if err != nil {
		return s, err
	}
	return s, c.do(r, &s)
}

// StatusResult is what one of several agents has said, or why it has not.
type StatusResult struct {
	Status
	Err error
}

// Statuses asks several agents at once, and gives their answers in the same order.
func (c *Client) Statuses(ctx context.Context, addresses ...string) []StatusResult {
	answers := make([]StatusResult, len(addresses))
	var wait sync.WaitGroup
	for i, address := range addresses {
		wait.Go(func() { answers[i].Status, answers[i].Err = c.Status(ctx, address) })
	}
	wait.Wait()
	return answers
}

// Leftover has an agent count the files of its brick.
func (c *Client) Leftover(ctx context.Context, address string) (Leftover, error) {
	var l Leftover
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+PathLeftover, nil)
	if err != nil {
		return l, err
	}
	return l, c.do(r, &l)
}

// Layout has an agent note how files are spread.
func (c *Client) Layout(ctx context.Context, address, audience string, q LayoutRequest, keys Keys) error {
	return c.post(ctx, "http://"+address+PathLayout, audience, q, keys, nil)
}

// Limit has an agent hold a volume to its size. Audience names the agent's brick.
func (c *Client) Limit(ctx context.Context, address, audience string, q LimitRequest, keys Keys) (LimitAnswer, error) {
	var a LimitAnswer
	return a, c.post(ctx, "http://"+address+PathLimit, audience, q, keys, &a)
}

// Heal has an agent ask for a heal.
func (c *Client) Heal(ctx context.Context, address, audience string, q HealRequest, keys Keys) error {
	return c.post(ctx, "http://"+address+PathHeal, audience, q, keys, nil)
}

// Pending has an agent list what its brick holds against others.
func (c *Client) Pending(ctx context.Context, address, audience string, q PendingRequest, keys Keys) (Pending, error) {
	var p Pending
	return p, c.post(ctx, "http://"+address+PathPending, audience, q, keys, &p)
}

// ClearPending has an agent take back what its brick holds against another.
func (c *Client) ClearPending(ctx context.Context, address, audience string, q ClearPendingRequest, keys Keys) error {
	return c.post(ctx, "http://"+address+PathForgive, audience, q, keys, nil)
}

func (c *Client) post(ctx context.Context, url, audience string, request any, keys Keys, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	token, err := keys.Sign(audience, body, time.Now())
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	return c.do(r, answer)
}

func (c *Client) do(r *http.Request, answer any) error {
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
		return fmt.Errorf("reading the agent's answer: %w", err)
	}
	return nil
}
