package main

import (
	"context"

	"google.golang.org/grpc"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/machineidpb"
)

// authService is the part of AuthService that bots call.
type authService struct {
	authpb.UnimplementedAuthServiceServer
	*server
}

func (s authService) Ping(ctx context.Context, _ *authpb.PingRequest) (*authpb.PingResponse, error) {
	if err := s.failPoint(ctx, "ping"); err != nil {
		return nil, err
	}
	response := &authpb.PingResponse{
		ClusterName:     s.cluster,
		ServerVersion:   s.version,
		ProxyPublicAddr: s.proxyAddr,

		SignatureAlgorithmSuite: s.suiteNumber(),
	}
	if s.lie == "unknown-suite" {
		response.SignatureAlgorithmSuite = 99
	}
	return response, nil
}

func (s authService) GetClusterCACert(context.Context, *authpb.GetClusterCACertRequest) (*authpb.GetClusterCACertResponse, error) {
	if s.lie == "other-pin" {
		return &authpb.GetClusterCACertResponse{TLSCA: s.ca.web.pem}, nil
	}
	return &authpb.GetClusterCACertResponse{TLSCA: s.ca.host.pem}, nil
}

func (s *server) suiteNumber() authpb.SignatureAlgorithmSuite {
	for number, name := range suiteNames {
		if name == s.suite {
			return authpb.SignatureAlgorithmSuite(number)
		}
	}
	return authpb.SignatureAlgorithmSuite_SIGNATURE_ALGORITHM_SUITE_UNSPECIFIED
}

// requireBot refuses callers without a bot's certificate.
func requireBot(ctx context.Context) (caller, error) {
	who, err := callerOf(ctx)
	if err == nil && !who.authenticated {
		err = accessDenied("access denied")
	}
	return who, err
}

func (s authService) WatchEvents(_ *authpb.Watch, stream grpc.ServerStreamingServer[authpb.Event]) error {
	if _, err := requireBot(stream.Context()); err != nil {
		return err
	}
	if err := stream.Send(&authpb.Event{Type: authpb.Operation_INIT}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// heartbeatService takes heartbeats.
type heartbeatService struct {
	machineidpb.UnimplementedBotInstanceServiceServer
	*server
}

func (s heartbeatService) SubmitHeartbeat(ctx context.Context, request *machineidpb.SubmitHeartbeatRequest) (*machineidpb.SubmitHeartbeatResponse, error) {
	who, err := requireBot(ctx)
	if err != nil {
		return nil, err
	}
	beat := request.GetHeartbeat()
	s.log("heartbeat", fields{
		"instance": who.facts.Instance, "version": beat.GetVersion(), "hostname": beat.GetHostname(),
		"join_method": beat.GetJoinMethod(),
	})
	return &machineidpb.SubmitHeartbeatResponse{}, nil
}
