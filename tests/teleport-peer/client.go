package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"teleport-peer/wire/authpb"
)

// client does what a tbot of one generation does.
type client struct {
	generation string
	version    string
	authServer string
	proxy      string
	pins       []string
	caPath     string
	insecure   bool
	token      string
	ttl        time.Duration
	ekAlg      string
	akAlg      string
	tpm        string
	softEK     string
	service    string
	upgrade    string
	outputs    string
	sshConfig  string
	rejoins    int
	dir        string
	resume     bool

	mu     sync.Mutex
	report report
	found  *findResponse // what the proxy said about ssh, kept for the life of the process
}

// stringList is a flag that may be repeated.
type stringList []string

func (l *stringList) String() string         { return strings.Join(*l, ",") }
func (l *stringList) Set(value string) error { *l = append(*l, value); return nil }

func (c *client) flags(set *flag.FlagSet) {
	set.StringVar(&c.generation, "generation", "a", "tbot's generation: a, b or c")
	set.StringVar(&c.version, "version", "", "version in the metadata (default: one of the generation; none: send none)")
	set.StringVar(&c.authServer, "auth-server", "", "HOST:PORT of an auth server")
	set.StringVar(&c.proxy, "proxy-server", "", "HOST:PORT of a proxy")
	set.Var((*stringList)(&c.pins), "ca-pin", "pin of the cluster's CA (may be repeated)")
	set.StringVar(&c.caPath, "ca-path", "", "PEM file of the cluster's CA")
	set.BoolVar(&c.insecure, "insecure", false, "do not verify servers")
	set.StringVar(&c.token, "token", "", "token name")
	set.DurationVar(&c.ttl, "ttl", time.Hour, "lifetime to ask for; 0 asks for none")
	set.StringVar(&c.ekAlg, "ek-alg", "rsa", "EK: rsa or ecc")
	set.StringVar(&c.akAlg, "ak", "rsa", "AK: rsa or ecc")
	set.StringVar(&c.tpm, "tpm", "", "TPM: unix:PATH, tcp:HOST:PORT or a device")
	set.StringVar(&c.softEK, "soft-ek", "", "PEM file of a software EK to join with in place of a TPM; made if absent")
	set.StringVar(&c.service, "service", "", "only this join service: legacy or new (default: as the generation does)")
	set.StringVar(&c.upgrade, "upgrade", "websocket", "connection upgrade: websocket, alpn or alpn-ping")
	set.StringVar(&c.outputs, "outputs", "none", "services: none or identity")
	set.StringVar(&c.sshConfig, "ssh-config", "on", "ssh_config of the identity output: on or off")
	set.IntVar(&c.rejoins, "rejoin", 0, "joins to make over mutual TLS after the first")
	set.BoolVar(&c.resume, "resume", false, "renew the identity in --dir, as a bot that is started again, while it is valid")
	set.StringVar(&c.dir, "dir", "", "directory to write the bot's files to")
}

func (c *client) check() error {
	choices := []struct{ flag, value, allowed string }{
		{"generation", c.generation, "a b c"},
		{"ek-alg", c.ekAlg, "rsa ecc"},
		{"ak", c.akAlg, "rsa ecc"},
		{"service", c.service, " legacy new"},
		{"outputs", c.outputs, "none identity"},
		{"ssh-config", c.sshConfig, "on off"},
		{"upgrade", c.upgrade, "websocket alpn alpn-ping"},
	}
	for _, choice := range choices {
		ok := false
		for _, allowed := range strings.Split(choice.allowed, " ") {
			ok = ok || choice.value == allowed
		}
		if !ok {
			return fmt.Errorf("--%s %q: must be one of: %s", choice.flag, choice.value, choice.allowed)
		}
	}
	switch {
	case (c.authServer == "") == (c.proxy == ""):
		return errors.New("pass one of --auth-server and --proxy-server")
	case len(c.pins) > 0 && c.caPath != "":
		return errors.New("the options --ca-pin and --ca-path are mutually exclusive")
	case c.resume && c.dir == "":
		return errors.New("--resume needs --dir")
	case c.token == "":
		return errors.New("pass --token")
	case c.tpm == "" && c.softEK == "":
		return errors.New("pass --tpm")
	}
	if c.version == "none" {
		c.version = ""
	} else if c.version == "" {
		c.version = map[string]string{"a": "18.0.0", "b": "18.5.0", "c": "19.0.0"}[c.generation]
	}
	if _, _, err := net.SplitHostPort(c.proxy); c.proxy != "" && err != nil {
		c.proxy = net.JoinHostPort(c.proxy, "3080")
	}
	return nil
}

func (c *client) record(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.add(e)
}

func (c *client) fallBack(from, to string, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Fallbacks = append(c.report.Fallbacks, fallback{from, to, why.Error()})
}

// attest makes the evidence that the flags ask for.
func (c *client) attest() (*evidence, error) {
	switch {
	case c.softEK != "":
		return softEvidence(c.softEK, softAK{template: akTemplate{ecc: c.akAlg == "ecc"}})
	case c.ekAlg == "ecc":
		return rawEvidence(c.tpm, rawAK{ek: "ecc", template: akTemplate{ecc: c.akAlg == "ecc"}})
	default:
		return goAttestation(c.tpm, c.akAlg)
	}
}

func runClient(arguments []string, out io.Writer) int {
	c := &client{}
	set := flag.NewFlagSet("client", flag.ContinueOnError)
	c.flags(set)
	lies := lieFlags(set)
	if set.Parse(arguments) != nil {
		return 2
	}
	if lies.list {
		return lies.printList(out)
	}
	if err := c.check(); err != nil {
		fmt.Fprintln(set.Output(), err)
		return 2
	}
	if lies.name != "" {
		return lies.run(c, out)
	}
	c.report = report{
		Generations: []int{}, Fallbacks: []fallback{}, Joins: []joinFacts{}, Outputs: []output{}, Events: []event{},
	}
	err := c.run(context.Background())
	c.report.Generation = c.generation
	c.report.OK = err == nil
	if err != nil {
		c.report.fail(err)
	}
	writeJSON(out, &c.report)
	if err != nil {
		return 1
	}
	return 0
}

// run joins, uses the identity, and joins again as often as asked.
func (c *client) run(ctx context.Context) error {
	id, err := c.start(ctx)
	if err != nil {
		return err
	}
	if err := c.keep(id); err != nil {
		return err
	}
	if err := c.use(ctx, id, true); err != nil {
		return err
	}
	for range c.rejoins {
		next, err := c.rejoin(ctx, id)
		if err != nil {
			return fmt.Errorf("joining again: %w", err)
		}
		if err := checkRejoin(id, next); err != nil {
			return err
		}
		id = next
		if err := c.keep(id); err != nil {
			return err
		}
		if err := c.use(ctx, id, false); err != nil {
			return err
		}
	}
	return nil
}

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

// keep records an identity and writes its files.
func (c *client) keep(id *identity) error {
	r, f := &c.report, &id.facts
	r.Bot, r.Cluster, r.Instance = f.Bot, f.Cluster, f.Instance
	r.Generations = append(r.Generations, f.Generation)
	if c.dir == "" {
		return nil
	}
	return id.write(c.dir, c.token)
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
