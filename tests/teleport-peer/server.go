package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// server behaves as Teleport's Auth and Proxy do for hosts that join with a TPM.
type server struct {
	authAddr   string
	proxyAddr  string
	l7Addr     string
	l7ALPN     string
	upgrades   string
	publicName string
	dir        string
	cluster    string
	legacy     string
	new        string
	suite      string
	requireAK  string
	enterprise string
	version    string
	minVersion string
	tokenFile  string
	flagToken  tokenSpec
	authALPN   string
	maxTTL     time.Duration
	failAt     string
	lie        string
	roles      []string
	stdinEOF   bool
	maxRuntime time.Duration

	tokens    []tokenSpec
	ca        *clusterCA
	out       io.Writer
	mu        sync.Mutex
	instances map[string]*botInstance
	conns     map[string]net.Conn
}

// botInstance is what the server remembers of one bot on one host.
type botInstance struct {
	bot        string
	generation int
}

func (s *server) flags(set *flag.FlagSet) {
	set.StringVar(&s.authAddr, "auth", "127.0.0.1:0", "auth address to listen on; empty: none")
	set.StringVar(&s.proxyAddr, "proxy", "", "proxy address to listen on, such as 127.0.0.1:0")
	set.StringVar(&s.l7Addr, "l7", "", "address of a TLS-terminating load balancer in front of the proxy")
	set.StringVar(&s.l7ALPN, "l7-alpn", "none", "protocol that the load balancer negotiates: none or http1")
	set.StringVar(&s.upgrades, "upgrades", "websocket alpn alpn-ping", "kinds of connection upgrade that the proxy knows")
	set.StringVar(&s.publicName, "public-name", "localhost", "DNS name in the proxy's web certificate")
	set.StringVar(&s.dir, "dir", "", "directory to write the CA files to (required)")
	set.StringVar(&s.cluster, "cluster", "example.test", "cluster name")
	set.StringVar(&s.legacy, "legacy", "on", "legacy join service: on, off (refused) or unimplemented")
	set.StringVar(&s.new, "new", "on", "new join service: on or off (unimplemented)")
	set.StringVar(&s.suite, "suite", "balanced-v1", "signature algorithm suite; empty: unspecified")
	set.StringVar(&s.requireAK, "require-ak", "any", "AK that is taken: rsa or any (RSA and ECC)")
	set.StringVar(&s.enterprise, "enterprise", "on", "off: refuse TPM joins as a community build")
	set.StringVar(&s.version, "server-version", "18.5.0", "version in Ping and /webapi/find; empty: none")
	set.StringVar(&s.minVersion, "min-version", "", "oldest client version that may join (new service)")
	set.StringVar(&s.tokenFile, "token-file", "", "YAML file of tokens")
	set.StringVar(&s.flagToken.Metadata.Name, "token", "", "name of a token, where no file is given")
	set.StringVar(&s.flagToken.Spec.BotName, "bot", "test", "bot of --token")
	set.Var(allowFlag{&s.flagToken, ruleHash}, "allow-hash", "EK public hash that --token allows (may be repeated)")
	set.Var(allowFlag{&s.flagToken, ruleSerial}, "allow-serial", "EK certificate serial that --token allows (may be repeated)")
	set.Var(caFlag{&s.flagToken}, "ek-ca", "PEM file of an EK CA of --token (may be repeated)")
	set.StringVar(&s.authALPN, "auth-through-proxy", "on", "off: the proxy does not pass teleport-auth@ on")
	set.DurationVar(&s.maxTTL, "ttl", 12*time.Hour, "longest lifetime of certificates")
	set.StringVar(&s.failAt, "fail-at", "", "STEP[:error|unavailable|close], steps: "+strings.Join(failSteps, " "))
	set.StringVar(&s.lie, "server-lie", "", "lie to clients: "+strings.Join(serverLies, " "))
	set.Var((*stringList)(&s.roles), "impersonate", "role that bots may impersonate (may be repeated)")
	set.BoolVar(&s.stdinEOF, "exit-on-stdin-eof", false, "end when standard input ends")
	set.DurationVar(&s.maxRuntime, "max-runtime", 10*time.Minute, "end after this time")
}

func (s *server) check() error {
	choices := []struct{ flag, value, allowed string }{
		{"legacy", s.legacy, "on off unimplemented"},
		{"new", s.new, "on off"},
		{"suite", s.suite, strings.Join(suiteNames, " ")},
		{"require-ak", s.requireAK, "rsa any"},
		{"enterprise", s.enterprise, "on off"},
		{"auth-through-proxy", s.authALPN, "on off"},
		{"l7-alpn", s.l7ALPN, "none http1"},
		{"server-lie", s.lie, " " + strings.Join(serverLies, " ")},
	}
	for _, choice := range choices {
		if !oneOf(choice.value, choice.allowed) {
			return fmt.Errorf("--%s %q: must be one of: %s", choice.flag, choice.value, choice.allowed)
		}
	}
	if s.l7Addr != "" && s.proxyAddr == "" {
		return fmt.Errorf("--l7 needs --proxy")
	}
	if s.dir == "" {
		return fmt.Errorf("pass --dir")
	}
	if s.failAt != "" {
		step, mode, _ := strings.Cut(s.failAt, ":")
		if !oneOf(step, strings.Join(failSteps, " ")) || !oneOf(mode, " error unavailable close") {
			return fmt.Errorf("--fail-at %q: unknown step or mode", s.failAt)
		}
	}
	return s.loadTokens()
}

// oneOf tells whether value is a word of allowed; a leading space allows nothing at all.
func oneOf(value, allowed string) bool {
	for _, word := range strings.Split(allowed, " ") {
		if word == value {
			return true
		}
	}
	return false
}

func runServer(arguments []string, out io.Writer) int {
	s := &server{
		out:       out,
		instances: map[string]*botInstance{},
		conns:     map[string]net.Conn{},
	}
	set := flag.NewFlagSet("server", flag.ContinueOnError)
	s.flags(set)
	if set.Parse(arguments) != nil {
		return 2
	}
	if err := s.check(); err != nil {
		fmt.Fprintln(set.Output(), err)
		return 2
	}
	if err := s.run(); err != nil {
		fmt.Fprintln(set.Output(), err)
		return 1
	}
	return 0
}

// run serves until a signal, the end of standard input or the longest run time.
func (s *server) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.maxRuntime)
	defer cancel()
	var err error
	if s.ca, err = newClusterCA(s.cluster, s.publicName); err != nil {
		return err
	}
	if err := s.lieAboutCAs(); err != nil {
		return err
	}
	start, err := s.listen()
	if err != nil {
		return err
	}
	if err := s.writeFiles(start); err != nil {
		return err
	}
	s.log("start", start)
	if s.stdinEOF {
		go func() {
			bufio.NewReader(os.Stdin).WriteTo(io.Discard)
			cancel()
		}()
	}
	<-ctx.Done()
	return nil
}

func (s *server) writeFiles(start fields) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	files := map[string][]byte{
		"host-ca.pem": s.ca.host.pem,
		"user-ca.pem": s.ca.user.pem,
		"web-ca.pem":  s.ca.web.pem,
	}
	for name, content := range files {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		start[strings.ReplaceAll(strings.TrimSuffix(name, ".pem"), "-", "_")+"_file"] = path
	}
	start["ca_pin"] = pinOf(s.ca.host.certificate)
	start["cluster"] = s.cluster
	return nil
}

// fields are the details of a line of the log.
type fields map[string]any

// log prints one event as a line of JSON.
func (s *server) log(name string, details fields) {
	line := fields{"event": name}
	for key, value := range details {
		line[key] = value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	writeJSON(s.out, line)
}

// failSteps are the steps of --fail-at in their order.
var failSteps = []string{
	"find", "ping", "init", "rejoin", "server-init", "tpm-init", "challenge", "solution", "certs",
}

// failPoint fails if this is the step of --fail-at.
func (s *server) failPoint(ctx context.Context, step string) error {
	at, mode, _ := strings.Cut(s.failAt, ":")
	if at != step {
		return nil
	}
	s.log("fail", fields{"step": step, "mode": mode})
	switch mode {
	case "close":
		if from, ok := peer.FromContext(ctx); ok {
			s.closeConn(from.Addr.String())
		}
		return status.Error(codes.Unavailable, "connection closed on purpose")
	case "unavailable":
		return status.Errorf(codes.Unavailable, "unavailable on purpose at %s", step)
	default:
		return status.Errorf(codes.Unknown, "failed on purpose at %s", step)
	}
}

func (s *server) closeConn(address string) {
	s.mu.Lock()
	conn := s.conns[address]
	s.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

func accessDenied(format string, args ...any) error {
	return status.Errorf(codes.PermissionDenied, format, args...)
}

func badParameter(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}
