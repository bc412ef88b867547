package main

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// report is everything that a run of the client saw: one JSON object.
type report struct {
	OK          bool        `json:"ok"`
	Error       string      `json:"error,omitempty"`
	ErrorCode   string      `json:"error_code,omitempty"`
	Generation  string      `json:"generation"`
	Service     string      `json:"service,omitempty"`
	Way         string      `json:"way,omitempty"`
	Bot         string      `json:"bot,omitempty"`
	Cluster     string      `json:"cluster,omitempty"`
	Suite       string      `json:"suite"`
	Instance    string      `json:"instance,omitempty"`
	Generations []int       `json:"generations"`
	Fallbacks   []fallback  `json:"fallbacks"`
	Joins       []joinFacts `json:"joins"`
	Outputs     []output    `json:"outputs"`
	Events      []event     `json:"events"`
}

// fallback is a way that failed and the one that was tried next.
type fallback struct {
	From string `json:"from"`
	To   string `json:"to"`
	Why  string `json:"why"`
}

// joinFacts describe one join that succeeded.
type joinFacts struct {
	Service       string         `json:"service"`
	Way           string         `json:"way"`
	Authenticated bool           `json:"authenticated"`
	Suite         string         `json:"suite"`
	EK            ekFacts        `json:"ek"`
	AK            string         `json:"ak"`
	TPMCommands   int            `json:"tpm_commands"`
	Identity      *identityFacts `json:"identity"`
}

// output is one output as it was fetched.
type output struct {
	Roles       []string       `json:"roles"`
	Identity    *identityFacts `json:"identity"`
	Authorities map[string]int `json:"authorities"`
	ProxyAddr   string         `json:"proxy_addr,omitempty"`
	RemoteCount int            `json:"remote_clusters"`
	SpiffeIDs   []string       `json:"spiffe_ids,omitempty"`
	Hint        string         `json:"hint,omitempty"`
}

// event is one network step: a connection, an RPC or an HTTP request.
type event struct {
	Kind          string `json:"kind"`
	Name          string `json:"name"`
	Target        string `json:"target,omitempty"`
	Authenticated bool   `json:"authenticated"`
	Code          string `json:"code"`
	Message       string `json:"message,omitempty"`
	SNI           string `json:"sni,omitempty"`
	ALPN          string `json:"alpn,omitempty"`
}

func (r *report) add(e event) { r.Events = append(r.Events, e) }

func (r *report) fail(err error) {
	r.OK = false
	r.Error = err.Error()
	r.ErrorCode = codeOf(err)
}

// codeOf names the gRPC code inside an error, or nothing if none is there.
func codeOf(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Code().String()
	}
	return ""
}

func hasCode(err error, wanted ...codes.Code) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, code := range wanted {
		if s.Code() == code {
			return true
		}
	}
	return false
}

// identityFacts take an identity apart, so that a test can look at each field.
type identityFacts struct {
	Cluster        string              `json:"cluster"`
	User           string              `json:"user"`
	Roles          []string            `json:"roles"`
	Bot            string              `json:"bot,omitempty"`
	Instance       string              `json:"instance,omitempty"`
	Generation     int                 `json:"generation,omitempty"`
	Renewable      bool                `json:"renewable"`
	JoinAttributes json.RawMessage     `json:"join_attributes,omitempty"`
	Subject        map[string][]string `json:"subject"`
	Key            string              `json:"key"`
	NotBefore      time.Time           `json:"not_before"`
	NotAfter       time.Time           `json:"not_after"`
	ChainVerified  bool                `json:"chain_verified"`
	TLSCAs         []string            `json:"tls_cas"`
	SSHCAs         int                 `json:"ssh_cas"`
	SSHKeyID       string              `json:"ssh_key_id"`
	SSHPrincipals  []string            `json:"ssh_principals"`
	SSHExtensions  map[string]string   `json:"ssh_extensions"`
	SSHVerified    bool                `json:"ssh_signed_by_ca"`
	SSHNotBefore   time.Time           `json:"ssh_not_before"`
	SSHNotAfter    time.Time           `json:"ssh_not_after"`
	ExtKeyUsage    []x509.ExtKeyUsage  `json:"ext_key_usage"`
}

func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
