package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"teleport-peer/wire/authpb"
)

const (
	clusterLocal          = "teleport.cluster.local"
	alpnProxyGRPC         = "teleport-proxy-grpc"
	alpnReverseTunnel     = "teleport-reversetunnel"
	alpnReverseTunnelV2   = "teleport-reversetunnelv2"
	alpnAuthPrefix        = "teleport-auth@"
	alpnHTTP2             = "h2"
	alpnHTTP1             = "http/1.1"
	pathConnectionUpgrade = "/webapi/connectionupgrade"
)

// encodedCluster is the name of a cluster as it stands in SNI and in server certificates.
func encodedCluster(cluster string) string {
	return hex.EncodeToString([]byte(cluster)) + "." + clusterLocal
}

// baseTLS are the settings of every connection: no session tickets, and for TLS 1.2 only
// ephemeral keys with AEAD.
func baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// link is a gRPC connection and what is known about it.
type link struct {
	*grpc.ClientConn
	way           string
	authenticated bool
}

type dialFunc func(ctx context.Context, address string) (net.Conn, error)

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: networkTimeout}
	return dialer.DialContext(ctx, "tcp", address)
}

// connect prepares a gRPC connection. The first call on it makes the connection.
func (c *client) connect(way, address string, config *tls.Config, dial dialFunc) (*link, error) {
	l := &link{way: way, authenticated: len(config.Certificates) > 0}
	transport := &recordedTLS{
		TransportCredentials: credentials.NewTLS(config),
		client:               c, link: l, address: address, sni: config.ServerName,
	}
	agent := ""
	if l.authenticated {
		agent = "tbot/" + c.version
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithUserAgent(agent),
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(dial),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: time.Minute, Timeout: networkTimeout, PermitWithoutStream: true,
		}),
		grpc.WithUnaryInterceptor(c.recordUnary(l)),
	)
	l.ClientConn = conn
	return l, err
}

// recordedTLS records each handshake in the report.
type recordedTLS struct {
	credentials.TransportCredentials
	client  *client
	link    *link
	address string
	sni     string
}

func (r *recordedTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := r.TransportCredentials.ClientHandshake(ctx, authority, raw)
	e := event{
		Kind: "connect", Name: r.link.way, Target: r.address, SNI: r.sni,
		Authenticated: r.link.authenticated, Code: "OK",
	}
	if err != nil {
		e.Code, e.Message = "failed", err.Error()
	} else if state, ok := info.(credentials.TLSInfo); ok {
		e.ALPN = state.State.NegotiatedProtocol
	}
	r.client.record(e)
	return conn, info, err
}

func (r *recordedTLS) Clone() credentials.TransportCredentials {
	copied := *r
	copied.TransportCredentials = r.TransportCredentials.Clone()
	return &copied
}

func (c *client) recordUnary(l *link) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		ctx, cancel := context.WithTimeout(c.withVersion(ctx), networkTimeout)
		defer cancel()
		err := invoke(ctx, method, request, reply, conn, options...)
		c.recordCall(l, method, err)
		return err
	}
}

func (c *client) recordCall(l *link, method string, err error) {
	e := event{
		Kind: "rpc", Name: method, Target: l.way, Authenticated: l.authenticated, Code: "OK",
	}
	if err != nil {
		e.Code, e.Message = codeOf(err), err.Error()
	}
	c.record(e)
}

func (c *client) withVersion(ctx context.Context) context.Context {
	if c.version == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "version", c.version)
}

// connectAuth makes the connection of a client without identity to an auth address: verified by
// pins or by a CA file, else not at all.
func (c *client) connectAuth(ctx context.Context, address string) (*link, error) {
	config := baseTLS()
	config.ServerName = clusterLocal
	config.NextProtos = []string{alpnHTTP2}
	switch {
	case c.insecure:
		config.InsecureSkipVerify = true
	case len(c.pins) > 0:
		pool, err := c.pinnedCAs(ctx, address)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	case c.caPath != "":
		text, err := os.ReadFile(c.caPath)
		if errors.Is(err, os.ErrNotExist) {
			config.InsecureSkipVerify = true
			break
		}
		if err != nil {
			return nil, err
		}
		certificate, err := parseCertificatePEM(text)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AddCert(certificate)
	default:
		config.InsecureSkipVerify = true
	}
	return c.connect("auth", address, config, dialTCP)
}

// pinnedCAs asks an unverified server for the cluster's CAs and checks each against the pins.
func (c *client) pinnedCAs(ctx context.Context, address string) (*x509.CertPool, error) {
	config := baseTLS()
	config.ServerName = clusterLocal
	config.NextProtos = []string{alpnHTTP2}
	config.InsecureSkipVerify = true
	l, err := c.connect("auth", address, config, dialTCP)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	response, err := authpb.NewAuthServiceClient(l).GetClusterCACert(ctx, &authpb.GetClusterCACertRequest{})
	if err != nil {
		return nil, fmt.Errorf("fetching cluster CAs: %w", err)
	}
	pool := x509.NewCertPool()
	found := 0
	for rest := response.TLSCA; ; found++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cluster CA: %w", err)
		}
		if err := checkPins(certificate, c.pins); err != nil {
			return nil, err
		}
		if now := time.Now(); now.After(certificate.NotAfter) || now.Before(certificate.NotBefore) {
			return nil, errors.New("cluster CA is not valid at this time")
		}
		pool.AddCert(certificate)
	}
	if found == 0 {
		return nil, errors.New("server returned no cluster CA")
	}
	return pool, nil
}

// pinOf is the pin of a CA certificate: the hash of its public key.
func pinOf(certificate *x509.Certificate) string {
	hash := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(hash[:])
}

func checkPins(certificate *x509.Certificate, pins []string) error {
	for _, pin := range pins {
		algorithm, _, found := strings.Cut(pin, ":")
		if !found {
			return errors.New("invalid format for certificate pin, expected algorithm:pin")
		}
		if algorithm != "sha256" {
			return errors.New("sha256 only supported hashing algorithm for certificate pin")
		}
		if pin == pinOf(certificate) {
			return nil
		}
	}
	return fmt.Errorf("cluster pin does not match any provided certificate authority pin: got %s", pinOf(certificate))
}

// connectIdentity makes the direct connection of an identity: mutual TLS, verified by its CAs.
func (c *client) connectIdentity(address string, id *identity) (*link, error) {
	return c.connect("identity", address, c.identityTLS(id), dialTCP)
}

func (c *client) identityTLS(id *identity) *tls.Config {
	config := baseTLS()
	config.ServerName = encodedCluster(id.facts.Cluster)
	config.NextProtos = []string{alpnHTTP2}
	config.RootCAs = id.pool
	config.InsecureSkipVerify = c.insecure
	certificate := id.tlsCertificate()
	config.Certificates = []tls.Certificate{certificate}
	// Always present the certificate, whatever CAs the server says it accepts.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &certificate, nil
	}
	return config
}
