package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// proxyServer is a Proxy: one address, on which the ALPN name says who is meant.
type proxyServer struct {
	*server
	web    *queueListener // HTTP
	joins  *queueListener // gRPC without client certificates: joining only
	auth   *queueListener // gRPC of the auth server, after a handshake with its certificate
	tunnel *queueListener // connections through the SSH tunnel, before their handshake
}

// serveProxy opens the proxy's address and the one of its load balancer.
func (s *server) serveProxy(start fields) error {
	p := &proxyServer{
		server: s,
		web:    newQueueListener(), joins: newQueueListener(),
		auth: newQueueListener(), tunnel: newQueueListener(),
	}
	listener, err := net.Listen("tcp", s.proxyAddr)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	s.proxyAddr = net.JoinHostPort(s.publicName, port)
	start["proxy_addr"], start["proxy_listen_addr"] = s.proxyAddr, listener.Addr().String()
	go p.accept(listener, func(conn net.Conn) { p.serve(conn, false) })

	joining := s.grpcServer(handshaken{})
	s.registerJoin(joining)
	go joining.Serve(p.joins)
	go s.authServer(handshaken{}).Serve(p.auth)
	go s.authServer(credentials.NewTLS(s.authTLS())).Serve(p.tunnel)
	go (&http.Server{Handler: p.handler(), ReadHeaderTimeout: networkTimeout}).Serve(p.web)

	if s.l7Addr == "" {
		return nil
	}
	balancer, err := net.Listen("tcp", s.l7Addr)
	if err != nil {
		return err
	}
	_, port, err = net.SplitHostPort(balancer.Addr().String())
	if err != nil {
		return err
	}
	start["l7_addr"] = net.JoinHostPort(s.publicName, port)
	go p.accept(balancer, p.serveBalancer)
	return nil
}

func (p *proxyServer) accept(listener net.Listener, serve func(net.Conn)) {
	tracked := trackingListener{listener, p.server}
	for {
		conn, err := tracked.Accept()
		if err != nil {
			return
		}
		go serve(conn)
	}
}

// serve makes the handshake and hands the connection on. Inside an upgraded connection the
// certificate is the one of the cluster.
func (p *proxyServer) serve(raw net.Conn, inside bool) {
	forAuth := false
	config := &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			p.log("hello", fields{
				"at": "proxy", "sni": hello.ServerName, "alpn_offered": hello.SupportedProtos,
				"upgraded": inside,
			})
			if p.authALPN == "on" && offersAuth(hello.SupportedProtos, p.cluster) {
				forAuth = true
				auth := p.authTLS()
				auth.GetConfigForClient = nil
				return auth, nil
			}
			return p.proxyTLS(inside), nil
		},
	}
	conn, err := p.handshake(raw, config)
	if err != nil {
		return
	}
	switch negotiated := conn.ConnectionState().NegotiatedProtocol; {
	case forAuth:
		p.auth.put(conn)
	case negotiated == alpnProxyGRPC:
		p.joins.put(conn)
	case negotiated == alpnReverseTunnel || negotiated == alpnReverseTunnelV2:
		p.serveTunnel(conn)
	default:
		p.web.put(conn)
	}
}

func (p *proxyServer) handshake(raw net.Conn, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), networkTimeout)
	defer cancel()
	conn := tls.Server(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		p.log("handshake-failed", fields{"at": "proxy", "message": err.Error()})
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func (p *proxyServer) proxyTLS(inside bool) *tls.Config {
	certificate := p.ca.webTLS
	if inside && p.lie != "upgraded-certificate-for-other-name" {
		certificate = p.ca.hostTLS
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{certificate},
		NextProtos: []string{
			alpnProxyGRPC, alpnReverseTunnelV2, alpnReverseTunnel, alpnHTTP2, alpnHTTP1,
		},
	}
}

// offersAuth tells whether a client wants the auth server behind this proxy.
func offersAuth(protocols []string, cluster string) bool {
	for _, protocol := range protocols {
		if protocol == alpnAuthPrefix+encodedCluster(cluster) {
			return true
		}
	}
	return false
}

// serveBalancer is a load balancer that terminates TLS and lets nothing but HTTP/1.1 through.
func (p *proxyServer) serveBalancer(raw net.Conn) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{p.ca.webTLS}}
	if p.l7ALPN == "http1" {
		config.NextProtos = []string{alpnHTTP1}
	}
	if conn, err := p.handshake(raw, config); err == nil {
		p.web.put(conn)
	}
}

func (p *proxyServer) handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/webapi/find", "/v1/webapi/find", "/webapi/ping", "/v1/webapi/ping"} {
		mux.HandleFunc(path, p.find)
	}
	mux.HandleFunc(pathConnectionUpgrade, p.upgrade)
	mux.HandleFunc("/webapi/auth/export", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(p.ca.user.authorizedKey())
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.log("http", fields{
			"method": r.Method, "path": r.URL.Path, "proto": r.Proto, "user_agent": r.UserAgent(),
			"upgrade": r.Header.Get("Upgrade"),
		})
		mux.ServeHTTP(w, r)
	})
}

func (p *proxyServer) find(w http.ResponseWriter, r *http.Request) {
	if err := p.failPoint(r.Context(), "find"); err != nil {
		http.Error(w, `{"error":{"message":"failed on purpose"}}`, http.StatusInternalServerError)
		return
	}
	ssh := fields{
		"listen_addr": p.proxyAddr, "tunnel_listen_addr": p.proxyAddr,
		"web_listen_addr": p.proxyAddr, "public_addr": p.proxyAddr,
	}
	answer := fields{
		"auth":         fields{"type": "local", "signature_algorithm_suite": p.suite},
		"proxy":        fields{"tls_routing_enabled": true, "ssh": ssh},
		"cluster_name": p.cluster,
		"edition":      "ent",
	}
	if p.version != "" {
		answer["server_version"] = p.version
	}
	if p.minVersion != "" {
		answer["min_client_version"] = p.minVersion
	}
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, answer)
}

// upgrade turns an HTTP connection into a byte stream that is served like a connection of its own.
func (p *proxyServer) upgrade(w http.ResponseWriter, r *http.Request) {
	kind := upgradeKind(r.Header)
	if !oneOf(kind, p.upgrades) {
		kind = ""
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + kind + "\r\n"
	switch kind {
	case "websocket":
		if !offersSubprotocol(r.Header.Values("Sec-Websocket-Protocol"), "alpn") {
			http.Error(w, "subprotocol alpn expected", http.StatusBadRequest)
			return
		}
		answer += "Sec-WebSocket-Accept: " + websocketAccept(r.Header.Get("Sec-Websocket-Key")) +
			"\r\nSec-WebSocket-Protocol: alpn\r\n"
	case "alpn", "alpn-ping":
	default:
		http.Error(w, "unknown upgrade", http.StatusNotFound)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	conn.SetDeadline(time.Time{})
	if _, err := conn.Write([]byte(answer + "\r\n")); err != nil {
		conn.Close()
		return
	}
	p.log("upgraded", fields{"kind": kind})
	inner, err := p.upgraded(kind, &bufferedConn{Conn: conn, reader: buffered.Reader})
	if err != nil {
		conn.Close()
		return
	}
	p.serve(inner, true)
}

// upgradeKind is the first kind that a client asks for in either header.
func upgradeKind(header http.Header) string {
	for _, value := range append(header.Values("Upgrade"), header.Values("X-Teleport-Upgrade")...) {
		for _, kind := range strings.Split(value, ",") {
			if kind = strings.ToLower(strings.TrimSpace(kind)); oneOf(kind, "websocket alpn alpn-ping") {
				return kind
			}
		}
	}
	return ""
}

// upgraded begins with a ping, which a client must cope with at any time.
func (p *proxyServer) upgraded(kind string, conn *bufferedConn) (net.Conn, error) {
	switch kind {
	case "websocket":
		w := &websocketConn{Conn: conn, reader: conn.reader}
		w.pong = func(payload []byte) { p.log("pong", fields{"payload": string(payload)}) }
		return w, w.writeFrame(opPing, []byte("are you there"))
	case "alpn-ping":
		w := &pingConn{Conn: conn}
		_, err := w.Write(nil)
		return w, err
	default:
		return conn, nil
	}
}

func offersSubprotocol(values []string, wanted string) bool {
	for _, value := range values {
		for _, name := range strings.Split(value, ",") {
			if strings.TrimSpace(name) == wanted {
				return true
			}
		}
	}
	return false
}

// queueListener hands out connections that were accepted elsewhere.
type queueListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newQueueListener() *queueListener {
	return &queueListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *queueListener) put(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.closed:
		conn.Close()
	}
}

func (l *queueListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *queueListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *queueListener) Addr() net.Addr { return &net.TCPAddr{} }

// handshaken are the credentials of a connection whose handshake is done.
type handshaken struct{}

var errServerOnly = errors.New("these credentials are a server's")

func (handshaken) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errServerOnly
}

func (handshaken) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, ok := raw.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("not a TLS connection")
	}
	return conn, credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (h handshaken) Clone() credentials.TransportCredentials { return h }
func (handshaken) OverrideServerName(string) error           { return errServerOnly }
