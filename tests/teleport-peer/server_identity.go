package main

import (
	"context"
	"encoding/pem"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/clusterconfigpb"
	"teleport-peer/wire/presencepb"
	"teleport-peer/wire/trustpb"
)

// GetRole tells which roles the bot may impersonate.
func (s authService) GetRole(ctx context.Context, request *authpb.GetRoleRequest) (*authpb.RoleV6, error) {
	who, err := requireBot(ctx)
	if err != nil {
		return nil, err
	}
	if request.Name != who.facts.User {
		return nil, status.Errorf(codes.NotFound, "role %s is not found", request.Name)
	}
	return &authpb.RoleV6{Spec: &authpb.RoleSpecV6{Allow: &authpb.RoleConditions{
		Impersonate: &authpb.ImpersonateConditions{Roles: s.roles},
	}}}, nil
}

// GenerateUserCerts issues certificates with roles that the bot may impersonate.
func (s authService) GenerateUserCerts(ctx context.Context, request *authpb.UserCertsRequest) (*authpb.Certs, error) {
	who, err := requireBot(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case request.Username != who.facts.User:
		return nil, accessDenied("access denied")
	case !request.UseRoleRequests:
		return nil, accessDenied("a bot of the method tpm gets certificates with requested roles only")
	case len(request.RoleRequests) == 0:
		return nil, badParameter("no roles requested")
	}
	for _, role := range request.RoleRequests {
		if !s.mayImpersonate(role) {
			return nil, accessDenied("access denied: cannot impersonate role %q", role)
		}
	}
	block, _ := pem.Decode(request.TLSPublicKey)
	if block == nil {
		return nil, badParameter("public TLS key is not PEM")
	}
	line, _, _, _, sshErr := ssh.ParseAuthorizedKey(request.SSHPublicKey)
	tlsKey, sshKey, err := parseKeys(block.Bytes, line, sshErr)
	if err != nil {
		return nil, err
	}
	var wanted *time.Time
	if request.Expires != nil {
		expires := request.Expires.AsTime()
		wanted = &expires
	}
	notBefore, notAfter := s.lifetime(wanted)
	signed := subject{
		user: who.facts.User, roles: request.RoleRequests, bot: who.facts.Bot,
		instance: who.facts.Instance, notBefore: notBefore, notAfter: notAfter,
		principals: []string{internalJoin}, noReissue: !request.ReissuableRoleImpersonation,
	}
	tlsDER, err := s.ca.issueTLS(signed, tlsKey)
	if err != nil {
		return nil, err
	}
	sshCert, err := s.ca.issueSSH(signed, sshKey)
	if err != nil {
		return nil, err
	}
	s.log("impersonated", fields{"user": signed.user, "roles": signed.roles})
	return s.legacyCerts(tlsDER, sshCert), nil
}

func (s *server) mayImpersonate(role string) bool {
	for _, allowed := range s.roles {
		if allowed == role {
			return true
		}
	}
	return false
}

// certAuthority describes one of the cluster's CAs.
func (s *server) certAuthority(kind string) *authpb.CertAuthorityV2 {
	signer := s.ca.host
	if kind == "user" {
		signer = s.ca.user
	}
	return &authpb.CertAuthorityV2{
		Kind: "cert_authority", SubKind: kind, Version: "v2",
		Metadata: &authpb.Metadata{Name: s.cluster},
		Spec: &authpb.CertAuthoritySpecV2{
			Type: kind, ClusterName: s.cluster,
			ActiveKeys: &authpb.CAKeySet{
				SSH: []*authpb.SSHKeyPair{{PublicKey: signer.authorizedKey()}},
				TLS: []*authpb.TLSKeyPair{{Cert: signer.pem}},
			},
		},
	}
}

// trustService tells the cluster's CAs.
type trustService struct {
	trustpb.UnimplementedTrustServiceServer
	*server
}

func (s trustService) GetCertAuthority(ctx context.Context, request *trustpb.GetCertAuthorityRequest) (*authpb.CertAuthorityV2, error) {
	if _, err := requireBot(ctx); err != nil {
		return nil, err
	}
	if request.Domain != s.cluster || !oneOf(request.Type, "host user") {
		return nil, status.Errorf(codes.NotFound, "%s CA of %s is not found", request.Type, request.Domain)
	}
	return s.certAuthority(request.Type), nil
}

func (s trustService) GetCertAuthorities(ctx context.Context, request *trustpb.GetCertAuthoritiesRequest) (*trustpb.GetCertAuthoritiesResponse, error) {
	if _, err := requireBot(ctx); err != nil {
		return nil, err
	}
	response := &trustpb.GetCertAuthoritiesResponse{}
	if oneOf(request.Type, "host user") {
		response.CertAuthoritiesV2 = append(response.CertAuthoritiesV2, s.certAuthority(request.Type))
	}
	return response, nil
}

// configService tells the suite.
type configService struct {
	clusterconfigpb.UnimplementedClusterConfigServiceServer
	*server
}

func (s configService) GetAuthPreference(ctx context.Context, _ *clusterconfigpb.GetAuthPreferenceRequest) (*authpb.AuthPreferenceV2, error) {
	if _, err := requireBot(ctx); err != nil {
		return nil, err
	}
	return &authpb.AuthPreferenceV2{Spec: &authpb.AuthPreferenceSpecV2{SignatureAlgorithmSuite: s.suiteNumber()}}, nil
}

// presenceService knows no leaf clusters.
type presenceService struct {
	presencepb.UnimplementedPresenceServiceServer
	*server
}

func (s presenceService) ListRemoteClusters(ctx context.Context, _ *presencepb.ListRemoteClustersRequest) (*presencepb.ListRemoteClustersResponse, error) {
	_, err := requireBot(ctx)
	return &presencepb.ListRemoteClustersResponse{}, err
}
