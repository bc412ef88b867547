package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/codes"

	"teleport-peer/wire/authpb"
)

// start renews a stored identity that is valid, or joins.
func (c *client) start(ctx context.Context) (*identity, error) {
	if !c.resume {
		return c.firstJoin(ctx)
	}
	stored, err := readIdentity(c.dir, c.token)
	if err == nil && time.Now().After(stored.leaf.NotAfter) {
		err = errors.New("the stored identity has expired")
	}
	if err != nil {
		c.fallBack("stored", "join", err)
		return c.firstJoin(ctx)
	}
	next, err := c.rejoin(ctx, stored)
	if err != nil {
		return nil, fmt.Errorf("renewing the stored identity: %w", err)
	}
	return next, checkRejoin(stored, next)
}

func checkRejoin(before, after *identity) error {
	if before.facts.Instance != after.facts.Instance {
		return fmt.Errorf("instance changed from %q to %q", before.facts.Instance, after.facts.Instance)
	}
	if after.facts.Generation != before.facts.Generation+1 {
		return fmt.Errorf("generation went from %d to %d", before.facts.Generation, after.facts.Generation)
	}
	return nil
}

func (c *client) joined(l *link, a *attempt, service string, id *identity) {
	facts := joinFacts{
		Service: service, Way: l.way, Authenticated: l.authenticated, Suite: a.suite,
		Identity: &id.facts,
	}
	facts.EK, facts.AK, facts.TPMCommands = a.facts()
	r := &c.report
	r.Service, r.Way, r.Suite = service, l.way, a.suite
	r.Joins = append(r.Joins, facts)
}

// firstJoin joins without an identity.
func (c *client) firstJoin(ctx context.Context) (*identity, error) {
	if c.generation == "a" || c.service == "legacy" {
		return c.firstLegacy(ctx)
	}
	id, err := c.firstNew(ctx)
	var unavailable unavailableError
	if !errors.As(err, &unavailable) || c.service == "new" {
		return id, err
	}
	c.fallBack("new", "legacy", err)
	return c.firstLegacy(ctx)
}

// way is one way to reach the cluster from an address.
type way struct {
	name string
	join func(ctx context.Context) (*identity, error)
}

// tryWays tries one after the other and joins the errors.
func (c *client) tryWays(ctx context.Context, ways []way) (*identity, error) {
	var failures []error
	for i, w := range ways {
		id, err := w.join(ctx)
		if err == nil {
			return id, nil
		}
		failures = append(failures, fmt.Errorf("as %s: %w", w.name, err))
		if i+1 < len(ways) {
			c.fallBack(w.name, ways[i+1].name, err)
		}
	}
	if len(failures) == 1 {
		return nil, failures[0]
	}
	return nil, errors.Join(failures...)
}

// orderedWays applies the rule of the ports: 443 and 3080 are a proxy's.
func (c *client) orderedWays(auth, proxy func(ctx context.Context, address string) (*identity, error)) []way {
	asAuth := way{"auth", func(ctx context.Context) (*identity, error) { return auth(ctx, c.authServer) }}
	address := c.authServer
	if c.proxy != "" {
		address = c.proxy
	}
	asProxy := way{"proxy", func(ctx context.Context) (*identity, error) { return proxy(ctx, address) }}
	if c.proxy != "" {
		return []way{asProxy}
	}
	_, port, _ := net.SplitHostPort(c.authServer)
	switch {
	case c.generation == "c":
		return []way{asAuth}
	case port == "443" || port == "3080":
		return []way{asProxy, asAuth}
	default:
		return []way{asAuth, asProxy}
	}
}

func (c *client) firstLegacy(ctx context.Context) (*identity, error) {
	return c.tryWays(ctx, c.orderedWays(c.legacyAtAuth, c.legacyAtProxy))
}

func (c *client) legacyAtAuth(ctx context.Context, address string) (*identity, error) {
	l, err := c.connectAuth(ctx, address)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return c.legacyAfterPing(ctx, l)
}

// legacyAfterPing asks for the suite and joins.
func (c *client) legacyAfterPing(ctx context.Context, l *link) (*identity, error) {
	ping, err := authpb.NewAuthServiceClient(l).Ping(ctx, &authpb.PingRequest{})
	if err != nil {
		return nil, fmt.Errorf("pinging auth to determine signature algorithm suite: %w", err)
	}
	return c.legacyOn(ctx, l, suiteOfNumber(ping.SignatureAlgorithmSuite))
}

func (c *client) legacyAtProxy(ctx context.Context, address string) (*identity, error) {
	found, err := c.find(ctx, address)
	if err != nil {
		return nil, err
	}
	suite, err := found.suite()
	if err != nil {
		return nil, err
	}
	l, err := c.connectProxy(address)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return c.legacyOn(ctx, l, suite)
}

func (c *client) legacyOn(ctx context.Context, l *link, suite string) (*identity, error) {
	a := c.honestAttempt()
	defer a.close()
	id, err := c.joinLegacy(ctx, l, a, suite)
	if err != nil {
		return nil, err
	}
	c.joined(l, a, "legacy", id)
	return id, nil
}

func (c *client) newOn(ctx context.Context, l *link) (*identity, error) {
	a := c.honestAttempt()
	defer a.close()
	id, err := c.joinNew(ctx, l, a)
	if err != nil {
		return nil, err
	}
	c.joined(l, a, "new", id)
	return id, nil
}

func (c *client) firstNew(ctx context.Context) (*identity, error) {
	if c.generation == "c" && c.proxy != "" {
		if err := c.checkServerVersion(ctx); err != nil {
			return nil, err
		}
	}
	ways := c.orderedWays(c.newAtAuth, c.newAtProxy)
	var failures []error
	for i, w := range ways {
		id, err := w.join(ctx)
		var unavailable unavailableError
		if err == nil || !errors.As(err, &unavailable) || hasCode(err, codes.Unimplemented) {
			return id, err
		}
		failures = append(failures, err)
		if i+1 < len(ways) {
			c.fallBack(w.name, ways[i+1].name, err)
		}
	}
	return nil, errors.Join(failures...)
}

func (c *client) newAtAuth(ctx context.Context, address string) (*identity, error) {
	l, err := c.connectAuth(ctx, address)
	if err != nil {
		return nil, unavailableError{err}
	}
	defer l.Close()
	return c.newOn(ctx, l)
}

func (c *client) newAtProxy(ctx context.Context, address string) (*identity, error) {
	l, err := c.connectProxy(address)
	if err != nil {
		return nil, unavailableError{err}
	}
	defer l.Close()
	return c.newOn(ctx, l)
}

// rejoin joins over the connection of an identity.
func (c *client) rejoin(ctx context.Context, id *identity) (*identity, error) {
	l, err := c.reconnect(ctx, id)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if c.generation == "a" || c.service == "legacy" {
		return c.legacyAfterPing(ctx, l)
	}
	next, err := c.newOn(ctx, l)
	var unavailable unavailableError
	if !errors.As(err, &unavailable) || c.service == "new" {
		return next, err
	}
	c.fallBack("new", "legacy", err)
	return c.legacyAfterPing(ctx, l)
}
