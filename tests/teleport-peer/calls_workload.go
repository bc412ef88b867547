package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/clusterconfigpb"
	"teleport-peer/wire/machineidpb"
	"teleport-peer/wire/trustpb"
	"teleport-peer/wire/workloadidentitypb"
)

// audience is who the JWTs of workloads are for.
const audience = "peer"

// spiffeBundle is what workloads verify each other with.
type spiffeBundle struct {
	cas *x509.CertPool
	pem []byte
	jwt []*ecdsa.PublicKey
}

// workloadOutput makes the calls of the outputs workload-identity-x509 and workload-identity-jwt and
// writes their files.
func (c *client) workloadOutput(ctx context.Context, bot *link, id *identity) error {
	bundle, err := c.spiffeBundle(ctx, bot, id)
	if err != nil {
		return fmt.Errorf("trust bundle: %w", err)
	}
	revocations, err := workloadidentitypb.NewWorkloadIdentityRevocationServiceClient(bot).
		StreamSignedCRL(ctx, &workloadidentitypb.StreamSignedCRLRequest{})
	if err == nil {
		_, err = revocations.Recv()
	}
	if err != nil && !hasCode(err, codes.Unimplemented) {
		return fmt.Errorf("revocation list: %w", err)
	}
	made, roles, err := c.impersonate(ctx, bot, id)
	if err != nil {
		return fmt.Errorf("workload identity output: %w", err)
	}
	l, err := c.reconnect(ctx, made)
	if err != nil {
		return fmt.Errorf("workload identity output: %w", err)
	}
	defer l.Close()
	preference, err := clusterconfigpb.NewClusterConfigServiceClient(l).
		GetAuthPreference(ctx, &clusterconfigpb.GetAuthPreferenceRequest{})
	if err != nil {
		return err
	}
	key, err := newBotKey(suiteOfNumber(preference.GetSpec().GetSignatureAlgorithmSuite()))
	if err != nil {
		return err
	}
	svid, err := c.issueX509(ctx, l, key)
	if err != nil {
		return fmt.Errorf("X.509-SVID: %w", err)
	}
	certificate, err := checkX509(svid, bundle, key)
	if err != nil {
		return fmt.Errorf("X.509-SVID: %w", err)
	}
	token, err := c.issueJWT(ctx, l)
	if err != nil {
		return fmt.Errorf("JWT-SVID: %w", err)
	}
	if err := checkJWT(token, bundle); err != nil {
		return fmt.Errorf("JWT-SVID: %w", err)
	}
	c.report.Outputs = append(c.report.Outputs, output{
		Roles: roles, Identity: &made.facts, Authorities: map[string]int{},
		SpiffeIDs: []string{svid.SpiffeId, token.SpiffeId}, Hint: svid.Hint,
	})
	if c.dir == "" {
		return nil
	}
	private, err := x509.MarshalPKCS8PrivateKey(key.signer)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.dir, "workload")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"svid.pem":   pemOf("CERTIFICATE", certificate.Raw),
		"svid.key":   pemOf("PRIVATE KEY", private),
		"bundle.pem": bundle.pem,
		"jwt_svid":   []byte(token.GetJwtSvid().GetJwt()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// spiffeBundle watches what it consists of, and fetches it once the watch is open.
func (c *client) spiffeBundle(ctx context.Context, bot *link, id *identity) (*spiffeBundle, error) {
	cluster := id.facts.Cluster
	end, err := c.watchKinds(ctx, bot, []*authpb.WatchKind{
		{Kind: "cert_authority", Filter: map[string]string{"spiffe": cluster}},
		{Kind: "spiffe_federation"},
	})
	if err != nil {
		return nil, err
	}
	defer end()
	ca, err := trustpb.NewTrustServiceClient(bot).
		GetCertAuthority(ctx, &trustpb.GetCertAuthorityRequest{Type: "spiffe", Domain: cluster})
	if err != nil {
		return nil, err
	}
	bundle := &spiffeBundle{cas: x509.NewCertPool()}
	for _, keys := range []*authpb.CAKeySet{ca.GetSpec().GetActiveKeys(), ca.GetSpec().GetAdditionalTrustedKeys()} {
		for _, pair := range keys.GetTLS() {
			if !bundle.cas.AppendCertsFromPEM(pair.Cert) {
				return nil, errors.New("a CA is not PEM")
			}
			bundle.pem = append(bundle.pem, pair.Cert...)
		}
		for _, pair := range keys.GetJWT() {
			block, _ := pem.Decode(pair.PublicKey)
			if block == nil {
				return nil, errors.New("a key of JWTs is not PEM")
			}
			parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			if public, ok := parsed.(*ecdsa.PublicKey); ok {
				bundle.jwt = append(bundle.jwt, public)
			}
		}
	}
	for token := ""; ; {
		page, err := machineidpb.NewSPIFFEFederationServiceClient(bot).
			ListSPIFFEFederations(ctx, &machineidpb.ListSPIFFEFederationsRequest{PageSize: 100, PageToken: token})
		if err != nil {
			return nil, err
		}
		if token = page.NextPageToken; token == "" {
			return bundle, nil
		}
	}
}

// issueX509 asks by name or by labels; labels must mean one workload identity.
func (c *client) issueX509(ctx context.Context, l *link, key *botKey) (*workloadidentitypb.Credential, error) {
	issuance := workloadidentitypb.NewWorkloadIdentityIssuanceServiceClient(l)
	params := &workloadidentitypb.X509SVIDParams{PublicKey: key.tlsDER, UseIssuerOverrides: true}
	if c.nameSelector != "" {
		answer, err := issuance.IssueWorkloadIdentity(ctx, &workloadidentitypb.IssueWorkloadIdentityRequest{
			Name:         c.nameSelector,
			Credential:   &workloadidentitypb.IssueWorkloadIdentityRequest_X509SvidParams{X509SvidParams: params},
			RequestedTtl: durationpb.New(c.ttl),
		})
		return answer.GetCredential(), err
	}
	label, value, _ := strings.Cut(c.labelSelector, "=")
	answer, err := issuance.IssueWorkloadIdentities(ctx, &workloadidentitypb.IssueWorkloadIdentitiesRequest{
		LabelSelectors: []*workloadidentitypb.LabelSelector{{Key: label, Values: []string{value}}},
		Credential:     &workloadidentitypb.IssueWorkloadIdentitiesRequest_X509SvidParams{X509SvidParams: params},
		RequestedTtl:   durationpb.New(c.ttl),
	})
	return only(answer.GetCredentials(), err)
}

func (c *client) issueJWT(ctx context.Context, l *link) (*workloadidentitypb.Credential, error) {
	issuance := workloadidentitypb.NewWorkloadIdentityIssuanceServiceClient(l)
	params := &workloadidentitypb.JWTSVIDParams{Audiences: []string{audience}}
	if c.nameSelector != "" {
		answer, err := issuance.IssueWorkloadIdentity(ctx, &workloadidentitypb.IssueWorkloadIdentityRequest{
			Name:         c.nameSelector,
			Credential:   &workloadidentitypb.IssueWorkloadIdentityRequest_JwtSvidParams{JwtSvidParams: params},
			RequestedTtl: durationpb.New(c.ttl),
		})
		return answer.GetCredential(), err
	}
	label, value, _ := strings.Cut(c.labelSelector, "=")
	answer, err := issuance.IssueWorkloadIdentities(ctx, &workloadidentitypb.IssueWorkloadIdentitiesRequest{
		LabelSelectors: []*workloadidentitypb.LabelSelector{{Key: label, Values: []string{value}}},
		Credential:     &workloadidentitypb.IssueWorkloadIdentitiesRequest_JwtSvidParams{JwtSvidParams: params},
		RequestedTtl:   durationpb.New(c.ttl),
	})
	return only(answer.GetCredentials(), err)
}

func only(all []*workloadidentitypb.Credential, err error) (*workloadidentitypb.Credential, error) {
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("%d credentials in place of one", len(all))
	}
	return all[0], nil
}

// checkX509 verifies a certificate as a peer of the workload does.
func checkX509(svid *workloadidentitypb.Credential, bundle *spiffeBundle, key *botKey) (*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(svid.GetX509Svid().GetCert())
	if err != nil {
		return nil, err
	}
	intermediates := x509.NewCertPool()
	for _, der := range svid.GetX509Svid().GetChain() {
		between, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		intermediates.AddCert(between)
	}
	_, err = certificate.Verify(x509.VerifyOptions{
		Roots: bundle.cas, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	switch {
	case err != nil:
		return nil, err
	case len(certificate.URIs) != 1 || certificate.URIs[0].String() != svid.SpiffeId:
		return nil, fmt.Errorf("names %v, not %s alone", certificate.URIs, svid.SpiffeId)
	case !slices.Equal(certificate.RawSubjectPublicKeyInfo, key.tlsDER):
		return nil, errors.New("it is for another key")
	}
	return certificate, nil
}

// checkJWT verifies a token as its audience does.
func checkJWT(svid *workloadidentitypb.Credential, bundle *spiffeBundle) error {
	parts := strings.Split(svid.GetJwtSvid().GetJwt(), ".")
	if len(parts) != 3 {
		return errors.New("it has not three parts")
	}
	decoded := make([][]byte, 3)
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return err
		}
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if len(decoded[2]) != 64 {
		return fmt.Errorf("a signature of %d bytes is not one of ES256", len(decoded[2]))
	}
	r, s := new(big.Int).SetBytes(decoded[2][:32]), new(big.Int).SetBytes(decoded[2][32:])
	signed := func(key *ecdsa.PublicKey) bool { return ecdsa.Verify(key, digest[:], r, s) }
	if !slices.ContainsFunc(bundle.jwt, signed) {
		return errors.New("no key of the bundle has signed it")
	}
	var claims struct {
		Sub string   `json:"sub"`
		Aud []string `json:"aud"`
		Jti string   `json:"jti"`
	}
	if err := json.Unmarshal(decoded[1], &claims); err != nil {
		return err
	}
	if claims.Sub != svid.SpiffeId || !slices.Equal(claims.Aud, []string{audience}) || claims.Jti != svid.GetJwtSvid().GetJti() {
		return fmt.Errorf("it claims %+v", claims)
	}
	return nil
}
