package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	backdate       = time.Minute
	caLifetime     = 24 * time.Hour
	internalJoin   = "-teleport-internal-join"
	permitPTY      = "permit-pty"
	extBotName     = "bot-name@goteleport.com"
	extInstance    = "bot-instance-id@goteleport.com"
	extGeneration  = "generation"
	extRoles       = "teleport-roles"
	privateKeyRule = "none"
)

// caSigner is one CA: for X.509, and for SSH with the same key.
type caSigner struct {
	certificate *x509.Certificate
	pem         []byte
	key         crypto.Signer
	ssh         ssh.Signer
}

// clusterCA holds the cluster's CAs, and the CA of the proxy's public certificate.
type clusterCA struct {
	cluster    string
	host       *caSigner
	user       *caSigner
	userSigner *caSigner // signs bot certificates: the user CA, unless the server lies
	web        *caSigner
	hostTLS    tls.Certificate
	webTLS     tls.Certificate
}

func newClusterCA(cluster, publicName string) (*clusterCA, error) {
	ca := &clusterCA{cluster: cluster}
	var err error
	for _, made := range []struct {
		signer **caSigner
		name   string
	}{{&ca.host, "host"}, {&ca.user, "user"}, {&ca.web, "web"}} {
		if *made.signer, err = newSigner(cluster, made.name); err != nil {
			return nil, err
		}
	}
	ca.userSigner = ca.user
	names := []string{"localhost"}
	if publicName != names[0] {
		names = append(names, publicName)
	}
	inside := append([]string{clusterLocal, "*." + clusterLocal}, names...)
	if ca.hostTLS, err = ca.host.serverCertificate(inside, caLifetime); err != nil {
		return nil, err
	}
	ca.webTLS, err = ca.web.serverCertificate(names, caLifetime)
	return ca, err
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
}

func newSigner(cluster, name string) (*caSigner, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: cluster, Organization: []string{cluster}, OrganizationalUnit: []string{name}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromSigner(key)
	return &caSigner{certificate, pemOf("CERTIFICATE", der), key, signer}, err
}

func (ca *caSigner) serverCertificate(names []string, lifetime time.Duration) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: names[0]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:              names,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, ca.certificate, key.Public(), ca.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// authorizedKey is the CA's SSH key as a line.
func (ca *caSigner) authorizedKey() []byte { return ssh.MarshalAuthorizedKey(ca.ssh.PublicKey()) }

// subject is what a bot certificate says.
type subject struct {
	user       string
	roles      []string
	bot        string
	instance   string
	generation int
	attributes any // join attributes
	notBefore  time.Time
	notAfter   time.Time
	noReissue  bool
	principals []string
	replaced   [2]string // an attribute type and the value that a lie gives it
}

// issueTLS makes the X.509 certificate of a bot, in DER.
func (ca *clusterCA) issueTLS(s subject, key crypto.PublicKey) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	attributes, err := json.Marshal(s.attributes)
	if err != nil {
		return nil, err
	}
	name := pkix.Name{CommonName: s.user, Organization: s.roles, Locality: []string{internalJoin}}
	extra := [][2]string{{oidPostalCode, "{}"}, {oidBotName, s.bot}}
	if s.generation > 0 {
		extra = append(extra, [2]string{oidGeneration, strconv.Itoa(s.generation)})
	}
	if s.instance != "" {
		extra = append(extra, [2]string{oidInstance, s.instance})
	}
	if s.noReissue {
		extra = append(extra, [2]string{oidNoReissue, "true"})
	}
	if s.attributes != nil {
		extra = append(extra, [2]string{oidJoinAttributes, string(attributes)})
	}
	for _, pair := range extra {
		if pair[0] == s.replaced[0] {
			pair = s.replaced
		}
		name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: oidOf(pair[0]), Value: pair[1]})
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial,
		Subject:               name,
		NotBefore:             s.notBefore,
		NotAfter:              s.notAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca.userSigner.certificate, key, ca.userSigner.key)
}

// issueSSH makes the SSH user certificate of a bot.
func (ca *clusterCA) issueSSH(s subject, key ssh.PublicKey) (*ssh.Certificate, error) {
	roles, err := json.Marshal(map[string][]string{"roles": s.roles})
	if err != nil {
		return nil, err
	}
	certificate := &ssh.Certificate{
		Key:             key,
		CertType:        ssh.UserCert,
		KeyId:           s.user,
		ValidPrincipals: s.principals,
		ValidAfter:      uint64(s.notBefore.Unix()),
		ValidBefore:     uint64(s.notAfter.Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{
			permitPTY: "", extRoles: string(roles), extBotName: s.bot,
			"private-key-policy": privateKeyRule,
		}},
	}
	if s.instance != "" {
		certificate.Extensions[extInstance] = s.instance
	}
	if s.generation > 0 {
		certificate.Extensions[extGeneration] = strconv.Itoa(s.generation)
	}
	if s.noReissue {
		certificate.Extensions["disallow-reissue"] = ""
	}
	return certificate, signSSH(certificate, ca.userSigner.ssh)
}

// signSSH signs a certificate whatever it says; the library's own SignCert refuses some lies.
func signSSH(certificate *ssh.Certificate, signer ssh.Signer) (err error) {
	certificate.Nonce = make([]byte, 32)
	if _, err := rand.Read(certificate.Nonce); err != nil {
		return err
	}
	certificate.SignatureKey = signer.PublicKey()
	certificate.Signature = nil
	unsigned := certificate.Marshal()
	// The length of the missing signature ends the message, and is not signed.
	certificate.Signature, err = signer.Sign(rand.Reader, unsigned[:len(unsigned)-4])
	return err
}

func oidOf(dotted string) asn1.ObjectIdentifier {
	var oid asn1.ObjectIdentifier
	for _, part := range strings.Split(dotted, ".") {
		number, _ := strconv.Atoi(part)
		oid = append(oid, number)
	}
	return oid
}
