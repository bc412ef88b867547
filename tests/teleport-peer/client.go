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

	nameSelector  string
	labelSelector string

	rejoins int
	dir     string
	resume  bool

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
	set.StringVar(&c.outputs, "outputs", "none", "services: none, identity, or workload-identity (an X.509 and a JWT output)")
	set.StringVar(&c.nameSelector, "name-selector", "", "name of the workload identity")
	set.StringVar(&c.labelSelector, "label-selector", "", "label of the workload identity, KEY=VALUE")
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
		{"outputs", c.outputs, "none identity workload-identity"},
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
	case c.outputs == "workload-identity" && (c.nameSelector == "") == (c.labelSelector == ""):
		return errors.New("pass one of --name-selector and --label-selector")
	case c.ttl < 0:
		return errors.New("--ttl must not be negative")
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
