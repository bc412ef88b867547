// Reads and verifies what an authority publishes and issues, with the libraries that receivers use. It knows nothing of ours.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

// The arguments: what to do, and files or names.
func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("no command")
	}
	switch command, args := args[0], args[1:]; {
	case command == "jwks" && len(args) == 4:
		return verifyByJwks(args[0], args[1], args[2], args[3])
	case command == "bundle" && len(args) == 4:
		return verifyByBundle(args[0], args[1], args[2], args[3])
	case command == "federate" && len(args) == 4:
		return federate(args[0], args[1], args[2], args[3])
	default:
		return errors.New("unknown command or wrong number of arguments")
	}
}

// verifyByJwks verifies a token as a service without SPIFFE does: golang-jwt, and the key of the set that the header names.
func verifyByJwks(setFile, tokenFile, audience, issuer string) error {
	text, err := os.ReadFile(setFile)
	if err != nil {
		return err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return err
	}
	key := func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		found := set.Key(kid)
		if len(found) != 1 || found[0].Use != "sig" || found[0].Algorithm != token.Method.Alg() {
			return nil, fmt.Errorf("%d keys are %q", len(found), kid)
		}
		return found[0].Key, nil
	}
	parsed, err := jwt.Parse(string(token), key,
		jwt.WithAudience(audience), jwt.WithIssuer(issuer), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithValidMethods([]string{"ES256", "RS256"}))
	if err != nil {
		return err
	}
	subject, err := parsed.Claims.GetSubject()
	if err != nil {
		return err
	}
	return report(map[string]any{"subject": subject})
}

// verifyByBundle parses a SPIFFE bundle, and verifies a JWT-SVID by it.
func verifyByBundle(bundleFile, tokenFile, audience, trustDomain string) error {
	domain, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return err
	}
	bundle, err := spiffebundle.Load(domain, bundleFile)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return err
	}
	var keys jwtbundle.Source = bundle
	svid, err := jwtsvid.ParseAndValidate(string(token), keys, []string{audience})
	if err != nil {
		return err
	}
	return report(summary(bundle, svid.ID.String()))
}

// federate fetches the bundle of a trust domain by https_spiffe, beginning with one that is known.
func federate(bundleFile, url, trustDomain, endpointID string) error {
	domain, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return err
	}
	known, err := spiffebundle.Load(domain, bundleFile)
	if err != nil {
		return err
	}
	endpoint, err := spiffeid.FromString(endpointID)
	if err != nil {
		return err
	}
	bundle, err := federation.FetchBundle(context.Background(), domain, url, federation.WithSPIFFEAuth(known, endpoint))
	if err != nil {
		return err
	}
	return report(summary(bundle, ""))
}

func summary(bundle *spiffebundle.Bundle, subject string) map[string]any {
	sequence, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	return map[string]any{
		"subject":  subject,
		"sequence": sequence,
		"hint":     hint.Seconds(),
		"x509":     len(bundle.X509Authorities()),
		"jwt":      len(bundle.JWTAuthorities()),
	}
}

func report(result any) error {
	return json.NewEncoder(os.Stdout).Encode(result)
}
