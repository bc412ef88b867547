package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/clusterconfigpb"
	"teleport-peer/wire/joinpb"
	"teleport-peer/wire/machineidpb"
	"teleport-peer/wire/presencepb"
	"teleport-peer/wire/trustpb"
)

// listen opens the addresses of the flags and tells where they are.
func (s *server) listen() (fields, error) {
	start := fields{}
	if s.authAddr != "" {
		listener, err := net.Listen("tcp", s.authAddr)
		if err != nil {
			return nil, err
		}
		s.authAddr = listener.Addr().String()
		start["auth_addr"] = s.authAddr
		go s.authServer(credentials.NewTLS(s.authTLS())).Serve(trackingListener{listener, s})
	}
	if s.proxyAddr != "" {
		if err := s.serveProxy(start); err != nil {
			return nil, err
		}
	}
	return start, nil
}

// trackingListener remembers connections, so that a fail point can close one.
type trackingListener struct {
	net.Listener
	server *server
}

func (l trackingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.server.mu.Lock()
		l.server.conns[conn.RemoteAddr().String()] = conn
		l.server.mu.Unlock()
	}
	return conn, err
}

// authServer serves every service that the auth address has.
func (s *server) authServer(transport credentials.TransportCredentials) *grpc.Server {
	g := s.grpcServer(transport)
	s.registerJoin(g)
	authpb.RegisterAuthServiceServer(g, authService{server: s})
	machineidpb.RegisterBotInstanceServiceServer(g, heartbeatService{server: s})
	trustpb.RegisterTrustServiceServer(g, trustService{server: s})
	clusterconfigpb.RegisterClusterConfigServiceServer(g, configService{server: s})
	presencepb.RegisterPresenceServiceServer(g, presenceService{server: s})
	return g
}

func (s *server) registerJoin(g *grpc.Server) {
	if s.legacy != "unimplemented" {
		authpb.RegisterJoinServiceServer(g, legacyService{server: s})
	}
	if s.new == "on" {
		joinpb.RegisterJoinServiceServer(g, newService{server: s})
	}
}

func (s *server) grpcServer(transport credentials.TransportCredentials) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(transport),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{PermitWithoutStream: true}),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			response, err := handler(ctx, request)
			s.logCall(ctx, info.FullMethod, err)
			return response, err
		}),
		grpc.StreamInterceptor(func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			err := handler(service, stream)
			s.logCall(stream.Context(), info.FullMethod, err)
			return err
		}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			return status.Errorf(codes.Unimplemented, "unknown method %s", method)
		}),
	)
}

func (s *server) logCall(ctx context.Context, method string, err error) {
	details := fields{"method": method, "code": status.Code(err).String()}
	incoming, _ := metadata.FromIncomingContext(ctx)
	details["user_agent"] = strings.Join(incoming.Get("user-agent"), " ")
	details["version"] = clientVersion(ctx)
	if from, ok := peer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok {
			details["sni"] = info.State.ServerName
			details["alpn"] = info.State.NegotiatedProtocol
			details["client_certificate"] = len(info.State.PeerCertificates) > 0
		}
	}
	s.log("rpc", details)
}

// authTLS verifies client certificates if they are given. A client shows exactly one certificate.
func (s *server) authTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.user.certificate)
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{alpnHTTP2},
		Certificates: []tls.Certificate{s.ca.hostTLS},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    pool,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 1 {
				return errors.New("access denied: intermediaries are not supported")
			}
			return nil
		},
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		s.log("hello", fields{"at": "auth", "sni": hello.ServerName, "alpn_offered": hello.SupportedProtos})
		return nil, nil
	}
	return config
}
