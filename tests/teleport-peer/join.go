package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/go-attestation/attest"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/joinpb"
)

const (
	rpcLegacyJoin = authpb.JoinService_RegisterUsingTPMMethod_FullMethodName
	rpcNewJoin    = joinpb.JoinService_Join_FullMethodName
	roleBot       = "Bot"
	methodTPM     = "tpm"
	joinTimeout   = 60 * time.Second
)

// attempt is one join: what the host claims, and how it proves it. A lie changes one thing in it.
type attempt struct {
	token      string
	role       string
	joinMethod *string
	expires    *timestamppb.Timestamp
	newKey     func(suite string) (*botKey, error)
	attest     func() (*evidence, error)
	// solve answers a challenge.
	solve func(e *evidence, credentialBlob, secret []byte) ([]byte, error)
	// edit returns what goes out in place of a message.
	edit func(message proto.Message) []proto.Message

	challenged bool
	suite      string
	evidence   *evidence
}

func (c *client) honestAttempt() *attempt {
	method := methodTPM
	var expires *timestamppb.Timestamp
	if c.ttl > 0 {
		expires = timestamppb.New(time.Now().Add(c.ttl))
	}
	return &attempt{
		token:      c.token,
		role:       roleBot,
		joinMethod: &method,
		expires:    expires,
		newKey:     newBotKey,
		attest:     c.attest,
		solve: func(e *evidence, blob, secret []byte) ([]byte, error) {
			return e.activate(blob, secret)
		},
		edit: func(message proto.Message) []proto.Message { return []proto.Message{message} },
	}
}

func (a *attempt) close() {
	if a.evidence != nil && a.evidence.close != nil {
		a.evidence.close()
	}
}

func (a *attempt) facts() (ek ekFacts, ak string, commands int) {
	ek, _ = a.evidence.ekFacts()
	if public, err := attest.ParseAKPublic(a.evidence.public); err == nil {
		ak = keyAlgorithm(crypto.PublicKey(public.Public))
	}
	if a.evidence.commands != nil {
		commands = a.evidence.commands()
	}
	return ek, ak, commands
}

// sender is the sending half of a stream.
type sender interface {
	SendMsg(message any) error
	CloseSend() error
}

// send sends a message after its edit, or hangs up if nothing is left of it. The end of the stream
// is no error here: the reason comes with the next receive.
func (a *attempt) send(stream sender, message proto.Message) error {
	outgoing := a.edit(message)
	if len(outgoing) == 0 {
		return stream.CloseSend()
	}
	for _, edited := range outgoing {
		if err := stream.SendMsg(edited); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// joinLegacy runs RegisterUsingTPMMethod.
func (c *client) joinLegacy(ctx context.Context, l *link, a *attempt, suite string) (*identity, error) {
	ctx, cancel := context.WithTimeout(c.withVersion(ctx), joinTimeout)
	defer cancel()
	a.suite = suite
	key, err := a.newKey(suite)
	if err != nil {
		return nil, err
	}
	if a.evidence, err = a.attest(); err != nil {
		return nil, err
	}
	certs, err := legacyCeremony(ctx, l, a, key)
	c.recordCall(l, rpcLegacyJoin, err)
	if err != nil {
		return nil, err
	}
	return acceptIdentity(key, certificates{
		ssh: certs.SSH, tls: certs.TLS, tlsCAs: certs.TLSCACerts, sshCAs: certs.SSHCACerts,
	})
}

func legacyCeremony(ctx context.Context, l *link, a *attempt, key *botKey) (*authpb.Certs, error) {
	stream, err := authpb.NewJoinServiceClient(l).RegisterUsingTPMMethod(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.send(stream, legacyInit(a, key)); err != nil {
		return nil, err
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	challenge := response.GetChallengeRequest()
	if challenge == nil {
		return nil, fmt.Errorf("expected challenge_request, got %T", response.Payload)
	}
	a.challenged = true
	solution, err := a.solve(a.evidence, challenge.CredentialBlob, challenge.Secret)
	if err != nil {
		return nil, fmt.Errorf("activating credential: %w", err)
	}
	if err := a.send(stream, &authpb.RegisterUsingTPMMethodRequest{
		Payload: &authpb.RegisterUsingTPMMethodRequest_ChallengeResponse{
			ChallengeResponse: &authpb.RegisterUsingTPMMethodChallengeResponse{Solution: solution},
		},
	}); err != nil {
		return nil, err
	}
	if response, err = stream.Recv(); err != nil {
		return nil, err
	}
	certs := response.GetCerts()
	if certs == nil {
		return nil, fmt.Errorf("expected certs, got %T", response.Payload)
	}
	return certs, endOf(stream.CloseSend, func() error { _, err := stream.Recv(); return err })
}

func legacyInit(a *attempt, key *botKey) *authpb.RegisterUsingTPMMethodRequest {
	init := &authpb.RegisterUsingTPMMethodInitialRequest{
		JoinRequest: &authpb.RegisterUsingTokenRequest{
			Role:         a.role,
			Token:        a.token,
			PublicTLSKey: key.tlsPEM,
			PublicSSHKey: key.sshLine,
			Expires:      a.expires,
		},
		AttestationParams: &authpb.TPMAttestationParameters{
			Public:            a.evidence.public,
			CreateData:        a.evidence.createData,
			CreateAttestation: a.evidence.createAttestation,
			CreateSignature:   a.evidence.createSignature,
		},
	}
	if a.evidence.ekCert != nil {
		init.Ek = &authpb.RegisterUsingTPMMethodInitialRequest_EkCert{EkCert: a.evidence.ekCert}
	} else {
		init.Ek = &authpb.RegisterUsingTPMMethodInitialRequest_EkKey{EkKey: a.evidence.ekKey}
	}
	return &authpb.RegisterUsingTPMMethodRequest{
		Payload: &authpb.RegisterUsingTPMMethodRequest_Init{Init: init},
	}
}

// unavailableError is a failure of the new service that makes a client try the legacy one.
type unavailableError struct{ error }

func (e unavailableError) Unwrap() error { return e.error }

// joinNew runs Join.
func (c *client) joinNew(ctx context.Context, l *link, a *attempt) (*identity, error) {
	ctx, cancel := context.WithTimeout(c.withVersion(ctx), joinTimeout)
	defer cancel()
	id, err := c.newCeremony(ctx, l, a)
	c.recordCall(l, rpcNewJoin, err)
	return id, err
}

func (c *client) newCeremony(ctx context.Context, l *link, a *attempt) (*identity, error) {
	stream, err := joinpb.NewJoinServiceClient(l).Join(ctx)
	if err != nil {
		return nil, unavailableError{err}
	}
	key, err := startNew(stream, a)
	if err != nil {
		return nil, err
	}
	if a.evidence, err = a.attest(); err != nil {
		return nil, err
	}
	if err := a.send(stream, newTPMInit(a, key)); err != nil {
		return nil, err
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	challenge := response.GetChallenge().GetTpmEncryptedCredential()
	if challenge == nil {
		return nil, fmt.Errorf("expected challenge, got %T", response.Payload)
	}
	a.challenged = true
	solution, err := a.solve(a.evidence, challenge.CredentialBlob, challenge.Secret)
	if err != nil {
		return nil, giveUp(stream, a, fmt.Errorf("activating credential: %w", err))
	}
	if err := a.send(stream, newSolution(solution)); err != nil {
		return nil, err
	}
	if response, err = stream.Recv(); err != nil {
		return nil, err
	}
	certs := response.GetResult().GetBotResult().GetCertificates()
	if certs == nil {
		return nil, fmt.Errorf("expected bot_result with certificates, got %T", response.Payload)
	}
	if err := endOf(stream.CloseSend, func() error { _, err := stream.Recv(); return err }); err != nil {
		return nil, err
	}
	return acceptNew(key, certs)
}

// startNew exchanges ClientInit for ServerInit and makes the key that the suite asks for.
func startNew(stream joinpb.JoinService_JoinClient, a *attempt) (*botKey, error) {
	if err := a.send(stream, &joinpb.JoinRequest{
		Payload: &joinpb.JoinRequest_ClientInit{ClientInit: &joinpb.ClientInit{
			JoinMethod: a.joinMethod, TokenName: a.token, SystemRole: a.role,
		}},
	}); err != nil {
		return nil, unavailableError{err}
	}
	response, err := stream.Recv()
	if hasCode(err, codes.PermissionDenied, codes.InvalidArgument) {
		return nil, err
	}
	if err != nil {
		return nil, unavailableError{err}
	}
	init := response.GetInit()
	if init == nil {
		return nil, unavailableError{fmt.Errorf("expected init, got %T", response.Payload)}
	}
	if init.JoinMethod != methodTPM {
		return nil, fmt.Errorf("server chose join method %q", init.JoinMethod)
	}
	if a.suite, err = suiteText(init.SignatureAlgorithmSuite); err != nil {
		return nil, err
	}
	return a.newKey(a.suite)
}

func newTPMInit(a *attempt, key *botKey) *joinpb.JoinRequest {
	init := &joinpb.TPMInit{
		ClientParams: &joinpb.ClientParams{Payload: &joinpb.ClientParams_BotParams{
			BotParams: &joinpb.BotParams{
				PublicKeys: &joinpb.PublicKeys{
					PublicTlsKey: key.tlsDER, PublicSshKey: key.sshWire,
				},
				Expires: a.expires,
			},
		}},
		Public:            a.evidence.public,
		CreateData:        a.evidence.createData,
		CreateAttestation: a.evidence.createAttestation,
		CreateSignature:   a.evidence.createSignature,
	}
	if a.evidence.ekCert != nil {
		init.Ek = &joinpb.TPMInit_EkCert{EkCert: a.evidence.ekCert}
	} else {
		init.Ek = &joinpb.TPMInit_EkKey{EkKey: a.evidence.ekKey}
	}
	return &joinpb.JoinRequest{Payload: &joinpb.JoinRequest_TpmInit{TpmInit: init}}
}

func newSolution(solution []byte) *joinpb.JoinRequest {
	return &joinpb.JoinRequest{Payload: &joinpb.JoinRequest_Solution{
		Solution: &joinpb.ChallengeSolution{Payload: &joinpb.ChallengeSolution_TpmSolution{
			TpmSolution: &joinpb.TPMSolution{Solution: solution},
		}},
	}}
}

func newGivingUp(message string) *joinpb.JoinRequest {
	return &joinpb.JoinRequest{Payload: &joinpb.JoinRequest_GivingUp{
		GivingUp: &joinpb.GivingUp{
			Reason: joinpb.GivingUp_REASON_CHALLENGE_SOLUTION_FAILED, Msg: message,
		},
	}}
}

// giveUp tells the server why no solution will come, and returns the server's answer if it sends
// one.
func giveUp(stream joinpb.JoinService_JoinClient, a *attempt, why error) error {
	if err := a.send(stream, newGivingUp(why.Error())); err != nil {
		return why
	}
	stream.CloseSend()
	if _, err := stream.Recv(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", why, err)
	}
	return why
}

// acceptNew brings certificates into the forms of the legacy service.
func acceptNew(key *botKey, certs *joinpb.Certificates) (*identity, error) {
	c := certificates{tls: pemOf("CERTIFICATE", certs.TlsCert)}
	if len(certs.SshCert) > 0 {
		public, err := ssh.ParsePublicKey(certs.SshCert)
		if err != nil {
			return nil, fmt.Errorf("SSH certificate: not in wire format: %w", err)
		}
		c.ssh = ssh.MarshalAuthorizedKey(public)
	}
	for _, der := range certs.TlsCaCerts {
		c.tlsCAs = append(c.tlsCAs, pemOf("CERTIFICATE", der))
	}
	for i, wire := range certs.SshCaKeys {
		public, err := ssh.ParsePublicKey(wire)
		if err != nil {
			return nil, fmt.Errorf("SSH CA key %d: not in wire format: %w", i, err)
		}
		c.sshCAs = append(c.sshCAs, ssh.MarshalAuthorizedKey(public))
	}
	return acceptIdentity(key, c)
}

// endOf waits for the server to end the stream after its last message.
func endOf(closeSend func() error, receive func() error) error {
	closeSend()
	switch err := receive(); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("server sent a message after its last one")
	default:
		return err
	}
}
