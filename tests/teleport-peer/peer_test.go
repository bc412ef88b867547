package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teleport-peer/wire/authpb"
)

// token is a server's flags for a token that allows a TPM and a software EK.
func token(tpm *testTPM, more ...string) []string {
	flags := []string{"--token", "tok", "--bot", "web", "--allow-hash", tpm.hash, "--allow-hash", tpm.eccHash}
	return append(flags, more...)
}

// join is a client's flags for a join with a TPM.
func join(tpm *testTPM, more ...string) []string {
	return append([]string{"--token", "tok", "--tpm", tpm.address}, more...)
}

func TestEachGenerationJoinsAndRejoins(t *testing.T) {
	tpm := newTPM(t)
	server := startServer(t, token(tpm)...)
	for _, generation := range []string{"a", "b", "c"} {
		for _, keys := range [][]string{{"rsa", "rsa"}, {"rsa", "ecc"}, {"ecc", "ecc"}, {"ecc", "rsa"}} {
			t.Run(fmt.Sprint(generation, keys), func(t *testing.T) {
				dir := t.TempDir()
				r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--ca-pin", server.Pin,
					"--generation", generation, "--ek-alg", keys[0], "--ak", keys[1], "--rejoin", "2", "--dir", dir)...)
				r.joins(t)
				service := map[string]string{"a": "legacy", "b": "new", "c": "new"}[generation]
				if r.Service != service || fmt.Sprint(r.Generations) != "[1 2 3]" {
					t.Errorf("service %s, generations %v", r.Service, r.Generations)
				}
				for _, name := range []string{"key", "key.pub", "key-cert.pub", "tlscert", "tlscacerts", "sshcacerts"} {
					if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

func TestStoredIdentityIsRenewed(t *testing.T) {
	tpm := newTPM(t)
	server := startServer(t, token(tpm)...)
	dir := t.TempDir()
	at := func(more ...string) report {
		return server.runAs(t, join(tpm, append([]string{"--auth-server", server.Auth, "--ak", "ecc", "--dir", dir, "--resume"}, more...)...)...)
	}
	first := at()
	first.joins(t)
	if len(first.Fallbacks) != 1 || first.Fallbacks[0].From != "stored" {
		t.Errorf("fallbacks: %v", first.Fallbacks)
	}
	again := at("--generation", "b")
	again.joins(t)
	if fmt.Sprint(again.Generations) != "[2]" || again.Instance != first.Instance || !again.Joins[0].Authenticated {
		t.Errorf("instance %s, then %s; generations %v", first.Instance, again.Instance, again.Generations)
	}
	other := startServer(t, token(tpm)...)
	stranger := other.runAs(t, join(tpm, "--auth-server", other.Auth, "--ak", "ecc", "--dir", dir, "--resume")...)
	stranger.fails(t, "renewing the stored identity")

	liar := startServer(t, token(tpm, "--server-lie", "expired-certificates")...)
	expired := liar.runAs(t, join(tpm, "--auth-server", liar.Auth, "--ak", "ecc", "--dir", dir)...)
	expired.fails(t, "failed direct dial to auth server")
	fresh := at()
	fresh.joins(t)
	if len(fresh.Fallbacks) != 1 || fresh.Fallbacks[0].Why != "the stored identity has expired" || fresh.Joins[0].Authenticated {
		t.Errorf("fallbacks: %v", fresh.Fallbacks)
	}
}

func TestLifetimes(t *testing.T) {
	tpm := newTPM(t)
	server := startServer(t, token(tpm, "--ttl", "3h")...)
	for asked, want := range map[string]time.Duration{"0": time.Hour, "30m": 30 * time.Minute, "2h": 2 * time.Hour, "100h": 3 * time.Hour} {
		r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--ak", "ecc", "--ttl", asked)...)
		r.joins(t)
		id := r.Joins[0].Identity
		got := id.NotAfter.Sub(id.NotBefore) - backdate
		if difference := (got - want).Abs(); difference > time.Minute || !id.SSHNotAfter.Equal(id.NotAfter) {
			t.Errorf("asked %s: %s, SSH until %s", asked, got, id.SSHNotAfter)
		}
	}
}

func TestSuitesChooseTheKey(t *testing.T) {
	tpm := newTPM(t)
	for suite, key := range map[string]string{
		"": "rsa-2048", "legacy": "rsa-2048", "balanced-v1": "ecdsa-P-256", "fips-v1": "ecdsa-P-256", "hsm-v1": "ecdsa-P-256",
	} {
		server := startServer(t, token(tpm, "--suite", suite)...)
		for _, generation := range []string{"a", "b"} {
			r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--generation", generation, "--ak", "ecc")...)
			r.joins(t)
			if got := r.Joins[0].Identity.Key; got != key {
				t.Errorf("suite %q, generation %s: key %s", suite, generation, got)
			}
		}
	}
}

func TestServerIsVerified(t *testing.T) {
	tpm := newTPM(t)
	server := startServer(t, token(tpm)...)
	at := func(more ...string) report {
		return server.runAs(t, join(tpm, append([]string{"--auth-server", server.Auth, "--ak", "ecc"}, more...)...)...)
	}
	wrongPin := at("--ca-pin", "sha256:"+strings.Repeat("0", 64))
	wrongPin.fails(t, "cluster pin does not match any provided certificate authority pin")
	malformed := at("--ca-pin", strings.Repeat("0", 64))
	malformed.fails(t, "invalid format for certificate pin, expected algorithm:pin")
	md5 := at("--ca-pin", "md5:"+strings.Repeat("0", 32))
	md5.fails(t, "sha256 only supported hashing algorithm for certificate pin")
	file := at("--ca-path", server.HostCA)
	file.joins(t)
	wrongFile := at("--ca-path", server.WebCA)
	wrongFile.fails(t, "certificate")
	insecure := at("--ca-path", server.WebCA, "--insecure")
	insecure.joins(t)
}

func TestFallbackToTheLegacyService(t *testing.T) {
	tpm := newTPM(t)
	for _, flags := range [][]string{
		{"--new", "off"},
		{"--fail-at", "server-init:unavailable"},
		{"--fail-at", "server-init:error"},
		{"--fail-at", "server-init:close"},
		{"--server-lie", "result-before-init"},
	} {
		server := startServer(t, token(tpm, flags...)...)
		r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--generation", "b", "--ak", "ecc")...)
		if len(r.Fallbacks) == 0 || r.Fallbacks[0].From != "new" && r.Fallbacks[0].From != "auth" {
			t.Errorf("%v: fallbacks %v", flags, r.Fallbacks)
		}
		if flags[0] != "--server-lie" {
			r.joins(t)
		}
	}
	server := startServer(t, token(tpm, "--min-version", "99.0.0")...)
	r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--generation", "b", "--ak", "ecc")...)
	r.fails(t, "client version is unsupported, minimum supported version is 99.0.0")
	if len(r.Fallbacks) != 0 {
		t.Errorf("a refusal is final, yet: %v", r.Fallbacks)
	}
}

func TestServersThatRefuse(t *testing.T) {
	tpm := newTPM(t)
	for _, c := range []struct{ flags, reason string }{
		{"--enterprise off", "this feature requires Teleport Enterprise"},
		{"--legacy off --new off", "legacy join service has been disabled in this environment"},
		{"--legacy unimplemented --new off", "unknown method /proto.JoinService/RegisterUsingTPMMethod"},
		{"--require-ak rsa", "public key of alg 0x454343 not supported"},
		{"--fail-at ping --new off", "pinging auth to determine signature algorithm suite"},
		{"--fail-at challenge", "failed on purpose at challenge"},
		{"--fail-at certs:close", ""},
		{"--fail-at rejoin", "failed on purpose at rejoin"},
	} {
		server := startServer(t, token(tpm, strings.Fields(c.flags)...)...)
		r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--generation", "b", "--ak", "ecc", "--rejoin", "1")...)
		r.fails(t, c.reason)
	}
}

func TestEKCertificates(t *testing.T) {
	tpm, other := newTPM(t), newTPM(t)
	at := func(flags ...string) report {
		server := startServer(t, append([]string{"--token", "tok", "--bot", "web"}, flags...)...)
		return server.runAs(t, join(tpm, "--auth-server", server.Auth, "--ak", "ecc")...)
	}
	verified := at("--allow-serial", tpm.serial, "--ek-ca", tpm.caFile)
	verified.joins(t)
	if attributes := string(verified.Joins[0].Identity.JoinAttributes); !strings.Contains(attributes, `"ek_cert_verified":true`) {
		t.Errorf("join attributes: %s", attributes)
	}
	unverified := at("--allow-serial", tpm.serial)
	unverified.joins(t)
	wrongCA := at("--allow-serial", tpm.serial, "--ek-ca", other.caFile)
	wrongCA.fails(t, "certificate signed by unknown authority")
}

func TestProxyAndBalancer(t *testing.T) {
	tpm := newTPM(t)
	for _, alpn := range []string{"none", "http1"} {
		server := startServer(t, token(tpm, "--proxy", "127.0.0.1:0", "--l7", "127.0.0.1:0", "--l7-alpn", alpn,
			"--auth", "", "--server-version", "19.0.0")...)
		for _, generation := range []string{"a", "b", "c"} {
			direct := server.runAs(t, join(tpm, "--proxy-server", server.Proxy, "--generation", generation, "--ak", "ecc", "--rejoin", "1")...)
			direct.joins(t)
			if !direct.has("tunnel", transportChannel, "OK") || direct.has("upgrade", "websocket", "OK") {
				t.Errorf("generation %s: %v", generation, direct.Events)
			}
			for _, kind := range []string{"websocket", "alpn", "alpn-ping"} {
				upgraded := server.runAs(t, join(tpm, "--proxy-server", server.L7, "--generation", generation, "--ak", "ecc", "--upgrade", kind)...)
				upgraded.joins(t)
				if !upgraded.has("upgrade", kind, "OK") {
					t.Errorf("generation %s: %v", generation, upgraded.Events)
				}
			}
		}
	}
	liar := startServer(t, token(tpm, "--proxy", "127.0.0.1:0", "--l7", "127.0.0.1:0",
		"--server-lie", "upgraded-certificate-for-other-name")...)
	otherName := liar.runAs(t, join(tpm, "--proxy-server", liar.L7, "--ak", "ecc")...)
	otherName.fails(t, "server is not a Teleport proxy or server certificate is expired")
	server := startServer(t, token(tpm, "--proxy", "127.0.0.1:0", "--min-version", "99.0.0")...)
	tooOld := server.runAs(t, join(tpm, "--proxy-server", server.Proxy, "--generation", "c", "--ak", "ecc")...)
	tooOld.fails(t, "version 19.0.0 is older than the server's minimum 99.0.0")
	if tooOld.has("connect", "proxy", "OK") {
		t.Error("generation c joins although its version is too old")
	}
	insecure := server.runAs(t, join(tpm, "--proxy-server", server.Proxy, "--insecure", "--ak", "ecc")...)
	insecure.joins(t)
}

// TestAuthServerBehindProxy goes the way of clients other than tbot: the auth server's own ALPN
// name on the proxy's address, with the client certificate, directly and inside an upgrade.
func TestAuthServerBehindProxy(t *testing.T) {
	tpm := newTPM(t)
	for _, passes := range []string{"on", "off"} {
		server := startServer(t, token(tpm, "--proxy", "127.0.0.1:0", "--l7", "127.0.0.1:0", "--auth-through-proxy", passes)...)
		dir := t.TempDir()
		joined := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--ak", "ecc", "--dir", dir)...)
		joined.joins(t)
		id, err := readIdentity(dir, "tok")
		if err != nil {
			t.Fatal(err)
		}
		c := &client{upgrade: "websocket", insecure: true, generation: "c"}
		config := c.identityTLS(id)
		config.InsecureSkipVerify = false
		config.NextProtos = []string{alpnAuthPrefix + encodedCluster(id.facts.Cluster), alpnHTTP2}
		for address, dial := range map[string]dialFunc{server.Proxy: dialTCP, server.L7: c.dialUpgrade} {
			l, err := c.connect("auth", address, config, dial)
			if err != nil {
				t.Fatal(err)
			}
			_, err = authpb.NewAuthServiceClient(l).Ping(t.Context(), &authpb.PingRequest{})
			if (err == nil) != (passes == "on") {
				t.Errorf("%s, passed on: %s: %v", address, passes, err)
			}
			l.Close()
		}
	}
}

func TestIdentityOutput(t *testing.T) {
	tpm := newTPM(t)
	server := startServer(t, token(tpm, "--proxy", "127.0.0.1:0", "--impersonate", "access", "--impersonate", "deploy")...)
	for _, generation := range []string{"a", "b", "c"} {
		for _, config := range []string{"on", "off"} {
			dir := t.TempDir()
			r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--generation", generation, "--ak", "ecc",
				"--outputs", "identity", "--ssh-config", config, "--dir", dir)...)
			r.joins(t)
			if roles := fmt.Sprint(r.Outputs[0].Identity.Roles); roles != "[access deploy]" {
				t.Errorf("roles %s", roles)
			}
			_, err := os.Stat(filepath.Join(dir, "output", "known_hosts"))
			if (err == nil) != (config == "on") {
				t.Errorf("ssh_config %s: known_hosts: %v", config, err)
			}
		}
	}
	noRoles := startServer(t, token(tpm)...)
	r := noRoles.runAs(t, join(tpm, "--auth-server", noRoles.Auth, "--ak", "ecc", "--outputs", "identity", "--ssh-config", "off")...)
	r.fails(t, "no roles requested")
}

func TestLongClusterNames(t *testing.T) {
	tpm := newTPM(t)
	for _, length := range []int{1, 31, 32, 120} {
		server := startServer(t, token(tpm, "--cluster", strings.Repeat("c", length))...)
		r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--ca-pin", server.Pin, "--ak", "ecc", "--rejoin", "1")...)
		r.joins(t)
	}
}

// TestEachLieIsAnsweredAsTeleportAnswersIt shows two things: that each lie is told, and that the
// server answers it as the facts say, which is to refuse wherever Teleport refuses.
func TestEachLieIsAnsweredAsTeleportAnswersIt(t *testing.T) {
	tpm, other := newTPM(t), newTPM(t)
	soft := filepath.Join(t.TempDir(), "soft.pem")
	softHash := identify(t, "--soft-ek", soft).Hash
	tokens := filepath.Join(t.TempDir(), "tokens.yaml")
	const form = `---
kind: token
version: v2
metadata: {name: %s}
spec: {roles: [Bot], join_method: tpm, bot_name: %s, tpm: {allow: [%s]}}
`
	var rules []string
	for _, hash := range []string{tpm.hash, other.hash, softHash} {
		rules = append(rules, fmt.Sprintf("{ek_public_hash: %q}", hash))
	}
	allowed := strings.Join(rules, ", ")
	text := fmt.Sprintf(form, "tok", "web", allowed) + fmt.Sprintf(form, "db", "db", allowed) +
		fmt.Sprintf(form, "others", "web", `{ek_public_hash: "00"}`)
	if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server := startServer(t, "--token-file", tokens)
	want := 0
	for _, l := range lies() {
		want += len(l.Services)
	}
	for _, ak := range []string{"rsa", "ecc"} {
		var verdicts []verdict
		decode(t, server.client(t, join(tpm, "--auth-server", server.Auth, "--ca-pin", server.Pin, "--ak", ak,
			"--other-tpm", other.address, "--soft-ek", soft, "--other-token", "others", "--bot-token", "db",
			"--lie", "all")...), &verdicts)
		for _, v := range verdicts {
			if v.Outcome == "skipped" || v.Outcome == "failed" || !v.OK && v.Code != "OK" || v.Teleport != nil && !v.AsTeleport {
				t.Errorf("%s (%s, %s): %s %s %s, want %+v", v.Lie, v.Service, ak, v.Outcome, v.Code, v.Message, v.Teleport)
			}
		}
		if len(verdicts) != want {
			t.Errorf("%d lies told, of %d", len(verdicts), want)
		}
	}
}

func TestEachServerLieIsNoticed(t *testing.T) {
	tpm := newTPM(t)
	reasons := map[string]string{
		"other-pin":                         "cluster pin does not match",
		"server-certificate-of-other-ca":    "certificate signed by unknown authority",
		"server-certificate-expired":        "certificate has expired",
		"server-certificate-for-other-name": "certificate is valid for localhost, not teleport.cluster.local",
		"unknown-suite":                     "unknown signature algorithm suite",
		"other-method":                      "server chose join method",
		"result-before-init":                "expected init",
		"result-before-challenge":           "expected challenge",
		"challenge-for-other-key":           "activating credential",
		"corrupt-challenge":                 "activating credential",
		"challenge-without-length":          "activating credential",
		"empty-challenge":                   "activating credential",
		"oversized-challenge":               "activating credential",
		"second-challenge":                  "expected",
		"more-messages":                     "server sent a message after its last one",
		"no-certificates":                   "SSH certificate: missing",
		"no-ca-certificates":                "no CA certificates returned",
		"oversized-certificates":            "CA certificate 2",
		"ssh-key-for-certificate":           "not a certificate",
		"tls-certificate-for-other-key":     "TLS certificate: made for another key",
		"ssh-certificate-for-other-key":     "SSH certificate: made for another key",
		"expired-certificates":              "failed direct dial to auth server",
		"other-ca":                          "failed direct dial to auth server",
		"issuer-without-organization":       "certificate missing CA organization",
		"no-common-name":                    "no common name",
		"no-roles":                          "no role in the organization",
		"no-principals":                     "SSH certificate: no principals",
		"empty-principal":                   "SSH certificate: an empty principal",
		"malformed-traits":                  "subject attribute 2.5.4.17",
		"malformed-generation":              "subject attribute 1.3.9999.1.14",
		"malformed-join-attributes":         "subject attribute 1.3.9999.2.21",
		"new-instance-at-rejoin":            "instance changed",
		"generation-stays":                  "generation went from 1 to 1",
	}
	for _, name := range serverLies {
		if name == "upgraded-certificate-for-other-name" {
			continue // TestProxyAndBalancer has it
		}
		reason, ok := reasons[name]
		if !ok {
			t.Errorf("no reason for %s", name)
		}
		server := startServer(t, token(tpm, "--server-lie", name)...)
		for _, service := range []string{"legacy", "new"} {
			if service == "legacy" && oneOf(name, "other-method result-before-init") {
				continue // ServerInit is of the new service
			}
			r := server.runAs(t, join(tpm, "--auth-server", server.Auth, "--ca-pin", server.Pin, "--generation", "b",
				"--service", service, "--ak", "ecc", "--rejoin", "1")...)
			if r.OK || !strings.Contains(r.Error, reason) {
				t.Errorf("%s (%s): ok=%t %s, want %q", name, service, r.OK, r.Error, reason)
			}
		}
	}
}
