package main

import (
	"context"

	"github.com/google/go-attestation/attest"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"teleport-peer/wire/joinpb"
)

// newService is the join service that replaces the legacy one.
type newService struct {
	joinpb.UnimplementedJoinServiceServer
	*server
}

func (s newService) Join(stream joinpb.JoinService_JoinServer) error {
	ctx, cancel := context.WithTimeout(stream.Context(), serverJoinTimeout)
	defer cancel()
	j := &newJoin{server: s.server, stream: stream, ctx: ctx}
	err := j.run()
	s.log("join", joinResult("new", ctx, err))
	return err
}

// newJoin is one call of Join.
type newJoin struct {
	*server
	stream joinpb.JoinService_JoinServer
	ctx    context.Context
	token  *tokenSpec
	caller caller
}

func (j *newJoin) next() (*joinpb.JoinRequest, error) {
	const expired = "join attempt timed out after 1m0s, terminating the stream on the server"
	request, err := receive(j.ctx, j.stream.Recv, expired)
	if err != nil {
		return nil, err
	}
	if request.Payload == nil {
		return nil, badParameter("unrecognized join request message type")
	}
	if gaveUp := request.GetGivingUp(); gaveUp != nil {
		return nil, status.Errorf(codes.Unknown, "client gave up on join attempt: %s: %s", gaveUp.Reason, gaveUp.Msg)
	}
	return request, nil
}

func wrongType(wanted string, got *joinpb.JoinRequest) error {
	return badParameter("expected client to send message of type %s, got %T", wanted, got.Payload)
}

func (j *newJoin) run() error {
	if err := j.start(); err != nil {
		return err
	}
	request, err := j.next()
	if err != nil {
		return err
	}
	if err := j.failPoint(j.ctx, "tpm-init"); err != nil {
		return err
	}
	init := request.GetTpmInit()
	if init == nil {
		return wrongType("TPMInit", request)
	}
	if init.ClientParams == nil {
		return badParameter("validating TPMInit message: ClientParams is required")
	}
	bot := init.ClientParams.GetBotParams()
	j.log("tpm-init", fields{
		"ek_cert": len(init.GetEkCert()), "ek_key": len(init.GetEkKey()),
		"tls_key": bot.GetPublicKeys().GetPublicTlsKey(), "ssh_key": bot.GetPublicKeys().GetPublicSshKey(),
		"expires": bot.GetExpires().AsTime(), "expires_set": bot.GetExpires() != nil,
	})
	facts, verified, err := j.validate(init)
	if err != nil {
		return err
	}
	if err := j.token.checkRules(facts); err != nil {
		return err
	}
	if bot == nil {
		return badParameter("BotParams is required to join as a Bot")
	}
	return j.finish(bot, facts, verified)
}

// start makes the checks up to ServerInit.
func (j *newJoin) start() error {
	request, err := j.next()
	if err != nil {
		return err
	}
	if err := j.failPoint(j.ctx, "init"); err != nil {
		return err
	}
	init := request.GetClientInit()
	if init == nil {
		return wrongType("ClientInit", request)
	}
	j.log("client-init", fields{
		"token": init.TokenName, "role": init.SystemRole, "method": init.JoinMethod,
		"forwarded_by_proxy": init.ForwardedByProxy,
	})
	if err := j.checkInit(init); err != nil {
		return err
	}
	if err := j.failPoint(j.ctx, "server-init"); err != nil {
		return err
	}
	if j.lie == "result-before-init" {
		return j.stream.Send(&joinpb.JoinResponse{Payload: &joinpb.JoinResponse_Result{Result: &joinpb.Result{}}})
	}
	answer := &joinpb.ServerInit{JoinMethod: methodTPM, SignatureAlgorithmSuite: j.suite}
	switch j.lie {
	case "unknown-suite":
		answer.SignatureAlgorithmSuite = "newest-v9"
	case "other-method":
		answer.JoinMethod = "token"
	}
	return j.stream.Send(&joinpb.JoinResponse{Payload: &joinpb.JoinResponse_Init{Init: answer}})
}

// checkInit makes the checks of ClientInit in their order.
func (j *newJoin) checkInit(init *joinpb.ClientInit) (err error) {
	switch {
	case init.TokenName == "":
		return badParameter("validating ClientInit message: TokenName is required")
	case init.SystemRole == "":
		return badParameter("validating ClientInit message: SystemRole is required")
	}
	// Nobody authenticates as a proxy here.
	if init.ProxySuppliedParameters != nil {
		return accessDenied("client set ProxySuppliedParameters but did not authenticate as a proxy")
	}
	if init.ForwardedByProxy {
		return badParameter("client set ForwardedByProxy without ProxySuppliedParameters")
	}
	if j.caller, err = callerOf(j.ctx); err != nil {
		return err
	}
	if j.caller.authenticated {
		if err := j.failPoint(j.ctx, "rejoin"); err != nil {
			return err
		}
	}
	if err := j.checkClientVersion(j.ctx); err != nil {
		return err
	}
	if j.token = j.findToken(init.TokenName); j.token == nil {
		return accessDenied("token expired or not found")
	}
	method := j.token.Spec.JoinMethod
	if init.JoinMethod != nil && *init.JoinMethod != method {
		return badParameter("client requested join method %s, provision token only supports method %s", *init.JoinMethod, method)
	}
	if !j.token.allows(init.SystemRole) || init.SystemRole != roleBot {
		return badParameter("can not join the cluster, the token does not allow role %s", init.SystemRole)
	}
	if method != methodTPM {
		return status.Errorf(codes.Unimplemented, "join method %s is not served here", method)
	}
	return nil
}

func (j *newJoin) validate(init *joinpb.TPMInit) (ekFacts, bool, error) {
	if err := j.checkEnterprise(); err != nil {
		return ekFacts{}, false, err
	}
	roots, err := j.token.caPool()
	if err != nil {
		return ekFacts{}, false, err
	}
	_, hasCert := init.Ek.(*joinpb.TPMInit_EkCert)
	_, hasKey := init.Ek.(*joinpb.TPMInit_EkKey)
	return j.validateTPM(claim{
		ekCert: init.GetEkCert(), hasCert: hasCert, ekKey: init.GetEkKey(), hasKey: hasKey,
		parameters: attest.AttestationParameters{
			Public:            init.Public,
			CreateData:        init.CreateData,
			CreateAttestation: init.CreateAttestation,
			CreateSignature:   init.CreateSignature,
		},
	}, roots, j.ask)
}

// ask sends the challenge and waits for the solution.
func (j *newJoin) ask(blob, secret []byte) ([]byte, error) {
	if err := j.failPoint(j.ctx, "challenge"); err != nil {
		return nil, err
	}
	if j.lie == "result-before-challenge" {
		early := &joinpb.Certificates{TlsCert: j.ca.user.certificate.Raw}
		return nil, j.stream.Send(&joinpb.JoinResponse{Payload: &joinpb.JoinResponse_Result{Result: &joinpb.Result{
			Payload: &joinpb.Result_BotResult{BotResult: &joinpb.BotResult{Certificates: early}},
		}}})
	}
	challenge := &joinpb.JoinResponse{Payload: &joinpb.JoinResponse_Challenge{
		Challenge: &joinpb.Challenge{Payload: &joinpb.Challenge_TpmEncryptedCredential{
			TpmEncryptedCredential: &joinpb.TPMEncryptedCredential{CredentialBlob: blob, Secret: secret},
		}},
	}}
	if err := j.stream.Send(challenge); err != nil {
		return nil, err
	}
	if j.lie == "second-challenge" {
		if err := j.stream.Send(challenge); err != nil {
			return nil, err
		}
	}
	request, err := j.next()
	if err != nil {
		return nil, err
	}
	if err := j.failPoint(j.ctx, "solution"); err != nil {
		return nil, err
	}
	solution := request.GetSolution().GetTpmSolution()
	if solution == nil {
		return nil, wrongType("ChallengeSolution", request)
	}
	return solution.Solution, nil
}

// finish issues the certificates.
func (j *newJoin) finish(bot *joinpb.BotParams, facts ekFacts, verified bool) error {
	keys := bot.GetPublicKeys()
	wire, sshErr := ssh.ParsePublicKey(keys.GetPublicSshKey())
	tlsKey, sshKey, err := parseKeys(keys.GetPublicTlsKey(), wire, sshErr)
	if err != nil {
		return err
	}
	joined := joinRequest{
		token: j.token, caller: j.caller, facts: facts, verified: verified,
		tls: tlsKey, ssh: sshKey, service: "new",
	}
	if bot.Expires != nil {
		expires := bot.Expires.AsTime()
		joined.expires = &expires
	}
	tlsDER, sshCert, err := j.issue(joined)
	if err != nil {
		return err
	}
	if err := j.failPoint(j.ctx, "certs"); err != nil {
		return err
	}
	answer := &joinpb.JoinResponse{Payload: &joinpb.JoinResponse_Result{Result: &joinpb.Result{
		Payload: &joinpb.Result_BotResult{BotResult: &joinpb.BotResult{
			Certificates: j.newCerts(tlsDER, sshCert),
		}},
	}}}
	if err := j.stream.Send(answer); err != nil {
		return err
	}
	if j.lie == "more-messages" {
		return j.stream.Send(answer)
	}
	return nil
}

// newCerts brings certificates into the form of the new service.
func (s *server) newCerts(tlsDER []byte, sshCert *ssh.Certificate) *joinpb.Certificates {
	certs := &joinpb.Certificates{
		TlsCert:    tlsDER,
		TlsCaCerts: [][]byte{s.ca.user.certificate.Raw, s.ca.host.certificate.Raw},
		SshCert:    sshCert.Marshal(),
		SshCaKeys:  [][]byte{s.ca.host.ssh.PublicKey().Marshal(), s.ca.user.ssh.PublicKey().Marshal()},
	}
	switch s.lie {
	case "no-certificates":
		return &joinpb.Certificates{}
	case "no-ca-certificates":
		certs.TlsCaCerts = nil
	case "oversized-certificates":
		certs.TlsCaCerts = append(certs.TlsCaCerts, make([]byte, 3<<20))
	case "ssh-key-for-certificate":
		certs.SshCert = sshCert.Key.Marshal()
	}
	return certs
}
