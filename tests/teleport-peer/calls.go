package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/machineidpb"
)

// reconnect makes the connection of an identity, each generation in its way.
func (c *client) reconnect(ctx context.Context, id *identity) (*link, error) {
	address, viaProxy := c.authServer, c.proxy != ""
	if viaProxy {
		address = c.proxy
	}
	if viaProxy && c.generation != "a" {
		return c.tunnel(ctx, id)
	}
	l, err := c.connectIdentity(address, id)
	if err != nil || c.generation == "c" {
		return l, err
	}
	if _, err = authpb.NewAuthServiceClient(l).Ping(ctx, &authpb.PingRequest{}); err == nil {
		return l, nil
	}
	l.Close()
	direct := fmt.Errorf("failed direct dial to auth server: %w", err)
	c.fallBack("direct", "tunnel", direct)
	if l, err = c.tunnel(ctx, id); err == nil {
		if _, err = authpb.NewAuthServiceClient(l).Ping(ctx, &authpb.PingRequest{}); err == nil {
			return l, nil
		}
		l.Close()
	}
	return nil, errors.Join(direct, fmt.Errorf("failed dial to auth server through reverse tunnel: %w", err))
}

// use makes the calls of a running bot with its identity.
func (c *client) use(ctx context.Context, id *identity, startup bool) error {
	l, err := c.reconnect(ctx, id)
	if err != nil {
		return err
	}
	defer l.Close()
	endWatch := func() error { return nil }
	if startup {
		if err := c.heartbeat(ctx, l); err != nil {
			return err
		}
		if endWatch, err = c.watch(ctx, l, id); err != nil {
			return err
		}
	}
	switch c.outputs {
	case "identity":
		err = c.identityOutput(ctx, l, id)
	case "workload-identity":
		err = c.workloadOutput(ctx, l, id)
	}
	if err != nil {
		return err
	}
	return endWatch()
}

// heartbeat submits one heartbeat. A server without that service is tolerated.
func (c *client) heartbeat(ctx context.Context, l *link) error {
	host, _ := os.Hostname()
	_, err := machineidpb.NewBotInstanceServiceClient(l).SubmitHeartbeat(ctx, &machineidpb.SubmitHeartbeatRequest{
		Heartbeat: &machineidpb.BotInstanceStatusHeartbeat{
			RecordedAt:   timestamppb.Now(),
			IsStartup:    true,
			Version:      c.version,
			Hostname:     host,
			Uptime:       durationpb.New(time.Second),
			JoinMethod:   methodTPM,
			Architecture: runtime.GOARCH,
			Os:           runtime.GOOS,
		},
	})
	if hasCode(err, codes.Unimplemented) {
		return nil
	}
	return err
}

// watch opens the watch for rotations of CAs and waits for its first event. tbot retries for ever
// where it fails; here that is an error. What it returns ends the watch, and tells whether the
// server had done so before.
func (c *client) watch(ctx context.Context, l *link, id *identity) (end func() error, err error) {
	cluster := id.facts.Cluster
	return c.watchKinds(ctx, l, []*authpb.WatchKind{{
		Kind:   "cert_authority",
		Filter: map[string]string{"host": cluster, "user": cluster, "db": cluster},
	}})
}

func (c *client) watchKinds(ctx context.Context, l *link, kinds []*authpb.WatchKind) (end func() error, err error) {
	ctx, cancel := context.WithTimeout(c.withVersion(ctx), networkTimeout)
	stream, err := authpb.NewAuthServiceClient(l).WatchEvents(ctx, &authpb.Watch{Kinds: kinds})
	if err == nil {
		var first *authpb.Event
		if first, err = stream.Recv(); err == nil && first.Type != authpb.Operation_INIT {
			err = fmt.Errorf("first event is %s, not INIT", first.Type)
		}
	}
	c.recordCall(l, authpb.AuthService_WatchEvents_FullMethodName, err)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watching CAs: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() error {
		defer cancel()
		select {
		case err := <-ended:
			return fmt.Errorf("watching CAs: server ended the watch: %w", err)
		default:
			return nil
		}
	}, nil
}
