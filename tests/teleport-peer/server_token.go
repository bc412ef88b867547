package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"gopkg.in/yaml.v3"
)

// tokenSpec is a provision token, as tctl create takes it.
type tokenSpec struct {
	Kind     string `yaml:"kind"`
	Version  string `yaml:"version"`
	Metadata struct {
		Name    string     `yaml:"name"`
		Expires *time.Time `yaml:"expires"`
	} `yaml:"metadata"`
	Spec struct {
		Roles      []string `yaml:"roles"`
		JoinMethod string   `yaml:"join_method"`
		BotName    string   `yaml:"bot_name"`
		TPM        struct {
			CAs   []string    `yaml:"ekcert_allowed_cas"`
			Allow []allowRule `yaml:"allow"`
		} `yaml:"tpm"`
	} `yaml:"spec"`
}

// allowRule lets a TPM in if each field that is set matches.
type allowRule struct {
	Description string `yaml:"description"`
	Hash        string `yaml:"ek_public_hash"`
	Serial      string `yaml:"ek_certificate_serial"`
}

func ruleHash(value string) allowRule   { return allowRule{Hash: value} }
func ruleSerial(value string) allowRule { return allowRule{Serial: value} }

// allowFlag adds a rule to a token.
type allowFlag struct {
	token *tokenSpec
	rule  func(string) allowRule
}

func (f allowFlag) String() string { return "" }
func (f allowFlag) Set(value string) error {
	f.token.Spec.TPM.Allow = append(f.token.Spec.TPM.Allow, f.rule(value))
	return nil
}

// caFlag adds an EK CA to a token.
type caFlag struct{ token *tokenSpec }

func (f caFlag) String() string { return "" }
func (f caFlag) Set(path string) error {
	text, err := os.ReadFile(path)
	f.token.Spec.TPM.CAs = append(f.token.Spec.TPM.CAs, string(text))
	return err
}

func (s *server) loadTokens() error {
	if s.tokenFile == "" {
		t := s.flagToken
		t.Spec.Roles, t.Spec.JoinMethod = []string{roleBot}, methodTPM
		s.tokens = []tokenSpec{t}
	} else {
		file, err := os.Open(s.tokenFile)
		if err != nil {
			return err
		}
		defer file.Close()
		for decoder := yaml.NewDecoder(file); ; {
			var t tokenSpec
			if err := decoder.Decode(&t); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return fmt.Errorf("%s: %w", s.tokenFile, err)
			}
			if t.Kind != "" {
				s.tokens = append(s.tokens, t)
			}
		}
	}
	for i := range s.tokens {
		if err := s.tokens[i].check(); err != nil {
			return fmt.Errorf("token %q: %w", s.tokens[i].Metadata.Name, err)
		}
	}
	return nil
}

// check makes the checks of the creation of a token, in their order.
func (t *tokenSpec) check() error {
	if t.Metadata.Name == "" {
		return errors.New("no name")
	}
	if len(t.Spec.Roles) == 0 {
		return errors.New("provisioning token is missing roles")
	}
	if t.allows(roleBot) != (t.Spec.BotName != "") {
		if t.Spec.BotName == "" {
			return errors.New(`token with role "Bot" must set bot_name`)
		}
		return errors.New(`can only set bot_name on token with role "Bot"`)
	}
	if t.Spec.JoinMethod != methodTPM {
		return nil
	}
	for i, text := range t.Spec.TPM.CAs {
		block, _ := pem.Decode([]byte(text))
		switch {
		case block == nil:
			return fmt.Errorf("spec.tpm: failed validation: ekcert_allowed_cas[%d]: no pem block found", i)
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("spec.tpm: failed validation: ekcert_allowed_cas[%d]: pem block is not 'CERTIFICATE' type", i)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("spec.tpm: failed validation: ekcert_allowed_cas[%d]: parsing certificate: %w", i, err)
		}
	}
	if len(t.Spec.TPM.Allow) == 0 {
		return errors.New("spec.tpm: failed validation: allow: at least one rule must be set")
	}
	for i, rule := range t.Spec.TPM.Allow {
		if rule.Hash == "" && rule.Serial == "" {
			return fmt.Errorf("spec.tpm: failed validation: allow[%d]: at least one of ['ek_public_hash', 'ek_certificate_serial'] must be set", i)
		}
	}
	return nil
}

func (t *tokenSpec) allows(role string) bool {
	for _, allowed := range t.Spec.Roles {
		if allowed == role {
			return true
		}
	}
	return false
}

// findToken returns a token that exists and has not expired.
func (s *server) findToken(name string) *tokenSpec {
	for i := range s.tokens {
		t := &s.tokens[i]
		if t.Metadata.Name == name && (t.Metadata.Expires == nil || time.Now().Before(*t.Metadata.Expires)) {
			return t
		}
	}
	return nil
}

// checkRules looks for a rule that matches a validated TPM.
func (t *tokenSpec) checkRules(facts ekFacts) error {
	for _, rule := range t.Spec.TPM.Allow {
		if (rule.Hash == "" || rule.Hash == facts.Hash) && (rule.Serial == "" || rule.Serial == facts.Serial) {
			return nil
		}
	}
	return accessDenied("validated tpm attributes did not match any allow rules")
}

// caPool holds every certificate of every entry as a root.
func (t *tokenSpec) caPool() (*x509.CertPool, error) {
	if len(t.Spec.TPM.CAs) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for i, text := range t.Spec.TPM.CAs {
		if !pool.AppendCertsFromPEM([]byte(text)) {
			return nil, badParameter("ekcert_allowed_cas[%d] has an invalid or malformed PEM", i)
		}
	}
	return pool, nil
}
