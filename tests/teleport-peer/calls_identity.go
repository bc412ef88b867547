package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/clusterconfigpb"
	"teleport-peer/wire/presencepb"
	"teleport-peer/wire/trustpb"
)

// identityOutput makes the calls of one identity output and writes its files.
func (c *client) identityOutput(ctx context.Context, bot *link, id *identity) error {
	made, roles, err := c.impersonate(ctx, bot, id)
	if err != nil {
		return fmt.Errorf("identity output: %w", err)
	}
	l, err := c.reconnect(ctx, made)
	if err != nil {
		return fmt.Errorf("identity output: %w", err)
	}
	defer l.Close()
	result := output{Roles: roles, Identity: &made.facts, Authorities: map[string]int{}}
	files := map[string][]byte{}
	for _, kind := range []string{"host", "user", "db"} {
		found, err := trustpb.NewTrustServiceClient(l).GetCertAuthorities(ctx, &trustpb.GetCertAuthoritiesRequest{Type: kind})
		if err != nil {
			return fmt.Errorf("identity output: %w", err)
		}
		result.Authorities[kind] = len(found.CertAuthoritiesV2)
		name := map[string]string{"host": "host", "user": "user", "db": "database"}[kind]
		files["teleport-"+name+"-ca.crt"] = caCertificates(found.CertAuthoritiesV2)
	}
	if c.sshConfig == "on" {
		if err := c.knownHosts(ctx, bot, l, made, &result, files); err != nil {
			return fmt.Errorf("identity output: ssh_config: %w", err)
		}
	}
	c.report.Outputs = append(c.report.Outputs, result)
	if c.dir == "" {
		return nil
	}
	return writeOutput(filepath.Join(c.dir, "output"), c.token, made, files)
}

// impersonate gets a certificate with the roles of the bot instead of the bot's own.
func (c *client) impersonate(ctx context.Context, bot *link, id *identity) (*identity, []string, error) {
	auth := authpb.NewAuthServiceClient(bot)
	role, err := auth.GetRole(ctx, &authpb.GetRoleRequest{Name: id.facts.User})
	if err != nil {
		return nil, nil, err
	}
	roles := role.GetSpec().GetAllow().GetImpersonate().GetRoles()
	preference, err := clusterconfigpb.NewClusterConfigServiceClient(bot).
		GetAuthPreference(ctx, &clusterconfigpb.GetAuthPreferenceRequest{})
	if err != nil {
		return nil, nil, err
	}
	key, err := newBotKey(suiteOfNumber(preference.GetSpec().GetSignatureAlgorithmSuite()))
	if err != nil {
		return nil, nil, err
	}
	certs, err := auth.GenerateUserCerts(ctx, &authpb.UserCertsRequest{
		Username:        id.facts.User,
		Expires:         c.honestAttempt().expires,
		RouteToCluster:  id.facts.Cluster,
		RoleRequests:    roles,
		UseRoleRequests: true,
		SSHPublicKey:    key.sshLine,
		TLSPublicKey:    key.tlsPEM,
	})
	if err != nil {
		return nil, nil, err
	}
	cas, err := auth.GetClusterCACert(ctx, &authpb.GetClusterCACertRequest{})
	if err != nil {
		return nil, nil, err
	}
	made, err := acceptIdentity(key, certificates{
		ssh: certs.SSH, tls: certs.TLS, sshCAs: id.sshCAs,
		tlsCAs: append(certs.TLSCACerts, eachCertificate(cas.TLSCA)...),
	})
	return made, roles, err
}

// eachCertificate takes a PEM file apart.
func eachCertificate(text []byte) (parts [][]byte) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return parts
		}
		parts = append(parts, pem.EncodeToMemory(block))
	}
}

// knownHosts makes the further calls that ssh_config needs.
func (c *client) knownHosts(ctx context.Context, bot, l *link, made *identity, result *output, files map[string][]byte) error {
	remote, err := presencepb.NewPresenceServiceClient(l).
		ListRemoteClusters(ctx, &presencepb.ListRemoteClustersRequest{})
	if err != nil {
		return err
	}
	result.RemoteCount = len(remote.RemoteClusters)
	proxy := c.proxy
	if proxy == "" {
		ping, err := authpb.NewAuthServiceClient(bot).Ping(ctx, &authpb.PingRequest{})
		if err != nil {
			return err
		}
		if proxy = ping.ProxyPublicAddr; proxy == "" {
			return errors.New("Ping tells no public address of a proxy")
		}
	}
	if c.found == nil {
		if c.found, err = c.find(ctx, proxy); err != nil {
			return err
		}
	}
	result.ProxyAddr = c.found.sshAddress()
	if c.found.Proxy.TLSRouting {
		c.needsUpgrade(proxy)
	}
	host, err := trustpb.NewTrustServiceClient(l).GetCertAuthority(ctx, &trustpb.GetCertAuthorityRequest{
		Type: "host", Domain: made.facts.Cluster,
	})
	if err != nil {
		return err
	}
	files["known_hosts"] = knownHostsOf(host, proxy, made.facts.Cluster)
	return nil
}

// sshAddress is where ssh would connect to.
func (f *findResponse) sshAddress() string {
	ssh := &f.Proxy.SSH
	for _, address := range []string{ssh.PublicAddr, ssh.SSHPublicAddr, ssh.WebListenAddr, ssh.ListenAddr} {
		if address != "" {
			return address
		}
	}
	return ""
}

func knownHostsOf(ca *authpb.CertAuthorityV2, proxy, cluster string) []byte {
	var out bytes.Buffer
	host, _, _ := strings.Cut(proxy, ":")
	for _, pair := range ca.GetSpec().GetActiveKeys().GetSSH() {
		key := strings.TrimSpace(string(pair.PublicKey))
		fmt.Fprintf(&out, "@cert-authority %s,%s,*.%s %s type=host\n", host, cluster, cluster, key)
	}
	return out.Bytes()
}

func caCertificates(cas []*authpb.CertAuthorityV2) (text []byte) {
	for _, ca := range cas {
		for _, pair := range ca.GetSpec().GetActiveKeys().GetTLS() {
			text = append(text, pair.Cert...)
		}
	}
	return text
}

func writeOutput(dir, token string, made *identity, files map[string][]byte) error {
	if err := made.write(dir, token); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
