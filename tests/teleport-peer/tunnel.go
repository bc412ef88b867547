package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// The names of the SSH tunnel to the auth server behind a proxy.
const (
	transportChannel = "teleport-transport"
	transportDial    = "teleport-transport-dial"
	transportTarget  = `{"address":"@remote-auth-server","conn_type":"node"}`
)

// channelConn is an SSH channel as a connection.
type channelConn struct {
	ssh.Channel
	under net.Conn
}

func (c channelConn) LocalAddr() net.Addr                { return c.under.LocalAddr() }
func (c channelConn) RemoteAddr() net.Addr               { return c.under.RemoteAddr() }
func (c channelConn) SetDeadline(t time.Time) error      { return c.under.SetDeadline(t) }
func (c channelConn) SetReadDeadline(t time.Time) error  { return c.under.SetReadDeadline(t) }
func (c channelConn) SetWriteDeadline(t time.Time) error { return c.under.SetWriteDeadline(t) }
func (c channelConn) Close() error                       { return errors.Join(c.Channel.Close(), c.under.Close()) }

// tunnel reaches the auth server through the SSH tunnel of the proxy.
func (c *client) tunnel(ctx context.Context, id *identity) (*link, error) {
	address := c.proxy
	if address == "" {
		address = c.authServer
	}
	found, err := c.find(ctx, address)
	if err != nil {
		return nil, err
	}
	target := found.tunnelAddress()
	if target == "" {
		return nil, errors.New("proxy tells no address for the tunnel")
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := c.dialTunnel(ctx, target, id)
		e := event{Kind: "tunnel", Name: transportChannel, Target: target, Authenticated: true, Code: "OK"}
		if err != nil {
			e.Code, e.Message = "failed", err.Error()
		}
		c.record(e)
		return conn, err
	}
	return c.connect("tunnel", target, c.identityTLS(id), dial)
}

// tunnelAddress is the web port with TLS routing, else the tunnel's own.
func (f *findResponse) tunnelAddress() string {
	ssh := &f.Proxy.SSH
	addresses := []string{ssh.SSHTunnelPublicAddr, ssh.TunnelListenAddr}
	port := "3024"
	if f.Proxy.TLSRouting {
		addresses = []string{ssh.PublicAddr, ssh.WebListenAddr}
		port = "443"
	}
	for _, address := range addresses {
		if address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return net.JoinHostPort(address, port)
		}
		return address
	}
	return ""
}

func (c *client) dialTunnel(ctx context.Context, target string, id *identity) (net.Conn, error) {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	raw, err := dialTCP(ctx, target)
	if err != nil {
		return nil, err
	}
	config := baseTLS()
	config.ServerName = host
	config.NextProtos = []string{alpnReverseTunnelV2, alpnReverseTunnel}
	config.InsecureSkipVerify = c.insecure
	conn := tls.Client(raw, config)
	conn.SetDeadline(time.Now().Add(networkTimeout))
	through, err := openTransport(conn, target, id)
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return through, nil
}

// openTransport logs in with the bot's SSH certificate and opens the channel.
func openTransport(conn net.Conn, target string, id *identity) (net.Conn, error) {
	certificate, _, _, _, err := ssh.ParseAuthorizedKey(id.ssh)
	if err != nil {
		return nil, err
	}
	plain, err := ssh.NewSignerFromSigner(id.key.signer)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewCertSigner(certificate.(*ssh.Certificate), plain)
	if err != nil {
		return nil, err
	}
	checker := ssh.CertChecker{
		IsHostAuthority: func(key ssh.PublicKey, _ string) bool { return id.trustsSSH(key) },
	}
	over, channels, requests, err := ssh.NewClientConn(conn, target, &ssh.ClientConfig{
		User:            internalJoin,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: checker.CheckHostKey,
		Timeout:         networkTimeout,
	})
	if err != nil {
		return nil, err
	}
	channel, channelRequests, err := ssh.NewClient(over, channels, requests).OpenChannel(transportChannel, nil)
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(channelRequests)
	ok, err := channel.SendRequest(transportDial, true, []byte(transportTarget))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("proxy refused the tunnel to the auth server")
	}
	return channelConn{channel, conn}, nil
}

func (id *identity) trustsSSH(key ssh.PublicKey) bool {
	for _, line := range id.sshCAs {
		if ca, _, _, _, err := ssh.ParseAuthorizedKey(line); err == nil && bytes.Equal(ca.Marshal(), key.Marshal()) {
			return true
		}
	}
	return false
}

// serveTunnel is the proxy's end of the tunnel. A probe for ALPN ends before it.
func (p *proxyServer) serveTunnel(conn net.Conn) {
	defer conn.Close()
	config, err := p.tunnelConfig()
	if err != nil {
		p.log("tunnel", fields{"message": err.Error()})
		return
	}
	conn.SetDeadline(time.Now().Add(networkTimeout))
	over, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		p.log("tunnel", fields{"message": err.Error()})
		return
	}
	conn.SetDeadline(time.Time{})
	p.log("tunnel", fields{"user": over.User()})
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		if offered.ChannelType() != transportChannel {
			offered.Reject(ssh.UnknownChannelType, "unknown channel type")
			continue
		}
		channel, channelRequests, err := offered.Accept()
		if err != nil {
			return
		}
		go p.serveTransport(channelConn{channel, conn}, channelRequests)
	}
}

func (p *proxyServer) serveTransport(conn channelConn, requests <-chan *ssh.Request) {
	for request := range requests {
		known := request.Type == transportDial
		p.log("tunnel-dial", fields{"request": request.Type, "payload": string(request.Payload)})
		request.Reply(known, nil)
		if known {
			p.tunnel.put(conn)
		}
	}
}

// tunnelConfig takes bots' certificates, and shows a host certificate.
func (p *proxyServer) tunnelConfig() (*ssh.ServerConfig, error) {
	key, err := newBotKey("balanced-v1")
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromSigner(key.signer)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	certificate := &ssh.Certificate{
		Key:             signer.PublicKey(),
		CertType:        ssh.HostCert,
		KeyId:           "proxy",
		ValidPrincipals: []string{p.publicName, "localhost", "127.0.0.1"},
		ValidAfter:      uint64(now.Add(-backdate).Unix()),
		ValidBefore:     uint64(now.Add(caLifetime).Unix()),
	}
	if err := signSSH(certificate, p.ca.host.ssh); err != nil {
		return nil, err
	}
	host, err := ssh.NewCertSigner(certificate, signer)
	if err != nil {
		return nil, err
	}
	checker := ssh.CertChecker{
		IsUserAuthority: func(key ssh.PublicKey) bool {
			return bytes.Equal(key.Marshal(), p.ca.user.ssh.PublicKey().Marshal())
		},
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if _, ok := key.(*ssh.Certificate); !ok {
				return nil, fmt.Errorf("a certificate is needed, got %s", key.Type())
			}
			return checker.Authenticate(meta, key)
		},
	}
	config.AddHostKey(host)
	return config, nil
}
