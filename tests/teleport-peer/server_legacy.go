package main

import (
	"context"
	"encoding/pem"
	"time"

	"github.com/google/go-attestation/attest"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"teleport-peer/wire/authpb"
)

const serverJoinTimeout = time.Minute

// legacyService is the legacy join service.
type legacyService struct {
	authpb.UnimplementedJoinServiceServer
	*server
}

// receive waits for a message until the join's time is over.
func receive[M any](ctx context.Context, recv func() (M, error), expired string) (M, error) {
	type result struct {
		message M
		err     error
	}
	done := make(chan result, 1)
	go func() {
		message, err := recv()
		done <- result{message, err}
	}()
	select {
	case r := <-done:
		return r.message, r.err
	case <-ctx.Done():
		var none M
		return none, status.Error(codes.ResourceExhausted, expired)
	}
}

func (s legacyService) RegisterUsingTPMMethod(stream authpb.JoinService_RegisterUsingTPMMethodServer) error {
	err := s.register(stream)
	s.log("join", joinResult("legacy", stream.Context(), err))
	return err
}

func joinResult(service string, ctx context.Context, err error) fields {
	details := fields{"service": service, "code": status.Code(err).String(), "version": clientVersion(ctx)}
	if err != nil {
		details["message"] = statusText(err)
	}
	return details
}

func (s legacyService) register(stream authpb.JoinService_RegisterUsingTPMMethodServer) error {
	if s.legacy == "off" {
		return accessDenied("legacy join service has been disabled in this environment")
	}
	ctx, cancel := context.WithTimeout(stream.Context(), serverJoinTimeout)
	defer cancel()
	const expired = "tpm join method timed out after 1m0s, terminating the stream on the server"
	next := func() (*authpb.RegisterUsingTPMMethodRequest, error) {
		return receive(ctx, stream.Recv, expired)
	}
	request, err := next()
	if err != nil {
		return err
	}
	if err := s.failPoint(ctx, "init"); err != nil {
		return err
	}
	init := request.GetInit()
	if init == nil {
		return badParameter("expected non-nil Init payload")
	}
	s.logLegacyInit(init)
	certs, err := s.admit(ctx, init, func(blob, secret []byte) ([]byte, error) {
		return s.ask(ctx, stream, next, blob, secret)
	})
	if err != nil {
		return err
	}
	if err := s.failPoint(ctx, "certs"); err != nil {
		return err
	}
	answer := &authpb.RegisterUsingTPMMethodResponse{Payload: &authpb.RegisterUsingTPMMethodResponse_Certs{Certs: certs}}
	if err := stream.Send(answer); err != nil {
		return err
	}
	if s.lie == "more-messages" {
		return stream.Send(answer)
	}
	return nil
}

// logLegacyInit tells which fields a host set.
func (s legacyService) logLegacyInit(init *authpb.RegisterUsingTPMMethodInitialRequest) {
	request := init.GetJoinRequest()
	s.log("legacy-init", fields{
		"token": request.GetToken(), "role": request.GetRole(), "host_id": request.GetHostID(),
		"node_name": request.GetNodeName(), "expires": request.GetExpires().AsTime(),
		"tls_key_pem": string(request.GetPublicTLSKey()), "ssh_key": string(request.GetPublicSSHKey()),
		"ek_cert": len(init.GetEkCert()), "ek_key": len(init.GetEkKey()),
		"remote_addr": request.GetRemoteAddr(), "instance": request.GetBotInstanceID(),
	})
}

// ask sends the challenge and waits for the solution.
func (s legacyService) ask(ctx context.Context, stream authpb.JoinService_RegisterUsingTPMMethodServer, next func() (*authpb.RegisterUsingTPMMethodRequest, error), blob, secret []byte) ([]byte, error) {
	if err := s.failPoint(ctx, "challenge"); err != nil {
		return nil, err
	}
	if s.lie == "result-before-challenge" {
		return nil, stream.Send(&authpb.RegisterUsingTPMMethodResponse{
			Payload: &authpb.RegisterUsingTPMMethodResponse_Certs{Certs: &authpb.Certs{TLS: s.ca.user.pem}},
		})
	}
	challenge := &authpb.RegisterUsingTPMMethodResponse{
		Payload: &authpb.RegisterUsingTPMMethodResponse_ChallengeRequest{
			ChallengeRequest: &authpb.TPMEncryptedCredential{CredentialBlob: blob, Secret: secret},
		},
	}
	if err := stream.Send(challenge); err != nil {
		return nil, err
	}
	if s.lie == "second-challenge" {
		if err := stream.Send(challenge); err != nil {
			return nil, err
		}
	}
	request, err := next()
	if err != nil {
		return nil, err
	}
	if err := s.failPoint(ctx, "solution"); err != nil {
		return nil, err
	}
	answer := request.GetChallengeResponse()
	if answer == nil {
		return nil, badParameter("expected non-nil ChallengeResponse payload")
	}
	return answer.Solution, nil
}

// admit makes the checks of a legacy join in their order, and the certificates.
func (s legacyService) admit(ctx context.Context, init *authpb.RegisterUsingTPMMethodInitialRequest, challenge challengeFunc) (*authpb.Certs, error) {
	request := init.GetJoinRequest()
	switch {
	case request == nil:
		return nil, badParameter("expected JoinRequest in RegisterUsingTPMMethodRequest_Init, got nil")
	case request.Role != roleBot && request.HostID == "":
		return nil, badParameter("missing parameter HostID")
	case request.Token == "":
		return nil, badParameter("missing parameter Token")
	}
	token := s.findToken(request.Token)
	if token == nil {
		return nil, accessDenied("%q can not join the cluster with role %q, token expired or not found", request.NodeName, request.Role)
	}
	if !token.allows(request.Role) {
		return nil, badParameter("node %q [%s] can not join the cluster, the token does not allow %q role", request.NodeName, request.HostID, request.Role)
	}
	if token.Spec.JoinMethod != methodTPM {
		return nil, badParameter("specified join token is not for `tpm` method")
	}
	who, err := callerOf(ctx)
	if err == nil && who.authenticated {
		err = s.failPoint(ctx, "rejoin")
	}
	if err != nil {
		return nil, err
	}
	facts, verified, err := s.validate(init, token, challenge)
	if err != nil {
		return nil, err
	}
	if err := token.checkRules(facts); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(request.PublicTLSKey)
	if block == nil {
		return nil, status.Error(codes.Unknown, "public TLS key is not PEM")
	}
	line, _, _, _, sshErr := ssh.ParseAuthorizedKey(request.PublicSSHKey)
	tlsKey, sshKey, err := parseKeys(block.Bytes, line, sshErr)
	if err != nil {
		return nil, err
	}
	joined := joinRequest{
		token: token, caller: who, facts: facts, verified: verified,
		tls: tlsKey, ssh: sshKey, service: "legacy",
	}
	if request.Expires != nil {
		expires := request.Expires.AsTime()
		joined.expires = &expires
	}
	tlsDER, sshCert, err := s.issue(joined)
	if err != nil {
		return nil, err
	}
	return s.legacyCerts(tlsDER, sshCert), nil
}

func (s legacyService) validate(init *authpb.RegisterUsingTPMMethodInitialRequest, token *tokenSpec, challenge challengeFunc) (ekFacts, bool, error) {
	if err := s.checkEnterprise(); err != nil {
		return ekFacts{}, false, err
	}
	roots, err := token.caPool()
	if err != nil {
		return ekFacts{}, false, err
	}
	_, hasCert := init.Ek.(*authpb.RegisterUsingTPMMethodInitialRequest_EkCert)
	_, hasKey := init.Ek.(*authpb.RegisterUsingTPMMethodInitialRequest_EkKey)
	parameters := init.GetAttestationParams()
	return s.validateTPM(claim{
		ekCert: init.GetEkCert(), hasCert: hasCert, ekKey: init.GetEkKey(), hasKey: hasKey,
		parameters: attest.AttestationParameters{
			Public:            parameters.GetPublic(),
			CreateData:        parameters.GetCreateData(),
			CreateAttestation: parameters.GetCreateAttestation(),
			CreateSignature:   parameters.GetCreateSignature(),
		},
	}, roots, challenge)
}

// legacyCerts brings certificates into the form of the legacy service.
func (s *server) legacyCerts(tlsDER []byte, sshCert *ssh.Certificate) *authpb.Certs {
	certs := &authpb.Certs{
		SSH:        ssh.MarshalAuthorizedKey(sshCert),
		TLS:        pemOf("CERTIFICATE", tlsDER),
		TLSCACerts: [][]byte{s.ca.user.pem, s.ca.host.pem},
		SSHCACerts: [][]byte{
			s.ca.host.authorizedKey(),
			s.ca.user.authorizedKey(),
		},
	}
	switch s.lie {
	case "no-certificates":
		return &authpb.Certs{}
	case "no-ca-certificates":
		certs.TLSCACerts = nil
	case "oversized-certificates":
		certs.TLSCACerts = append(certs.TLSCACerts, make([]byte, 3<<20))
	case "ssh-key-for-certificate":
		certs.SSH = ssh.MarshalAuthorizedKey(sshCert.Key)
	}
	return certs
}
