package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const probeTimeout = 5 * time.Second

// maxFindBody bounds the answer to /webapi/find.
const maxFindBody = 1 << 20

// findResponse holds the fields of /webapi/find that are used.
type findResponse struct {
	Auth struct {
		Suite any `json:"signature_algorithm_suite"`
	} `json:"auth"`
	Proxy struct {
		TLSRouting bool `json:"tls_routing_enabled"`
		SSH        struct {
			ListenAddr          string `json:"listen_addr"`
			TunnelListenAddr    string `json:"tunnel_listen_addr"`
			WebListenAddr       string `json:"web_listen_addr"`
			PublicAddr          string `json:"public_addr"`
			SSHPublicAddr       string `json:"ssh_public_addr"`
			SSHTunnelPublicAddr string `json:"ssh_tunnel_public_addr"`
		} `json:"ssh"`
	} `json:"proxy"`
	ServerVersion    string `json:"server_version"`
	MinClientVersion string `json:"min_client_version"`
}

func (f *findResponse) suite() (string, error) {
	switch value := f.Auth.Suite.(type) {
	case nil:
		return "", nil
	case string:
		return suiteText(value)
	case float64:
		if value >= 0 && int(value) < len(suiteNames) {
			return suiteNames[int(value)], nil
		}
	}
	return "", fmt.Errorf("unknown signature algorithm suite %v", f.Auth.Suite)
}

// find asks a proxy about the cluster. As in tbot, the HTTP status does not matter.
func (c *client) find(ctx context.Context, address string) (*findResponse, error) {
	found, err := c.getFind(ctx, "https", address)
	if err != nil && c.insecure && isLoopback(address) {
		found, err = c.getFind(ctx, "http", address)
	}
	return found, err
}

func (c *client) getFind(ctx context.Context, scheme, address string) (*findResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, networkTimeout)
	defer cancel()
	config := baseTLS()
	config.InsecureSkipVerify = c.insecure
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	name := scheme + "://" + address + "/webapi/find"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	found, code, err := decodeFind(transport, request)
	e := event{Kind: "http", Name: "/webapi/find", Target: scheme + "://" + address, Code: code}
	if err != nil {
		e.Message = err.Error()
		err = fmt.Errorf("GET /webapi/find: %w", err)
	}
	c.record(e)
	return found, err
}

func decodeFind(transport *http.Transport, request *http.Request) (*findResponse, string, error) {
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, "failed", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxFindBody))
	if err != nil {
		return nil, "failed", err
	}
	var found findResponse
	if err := json.Unmarshal(body, &found); err != nil {
		return nil, response.Status, err
	}
	return &found, response.Status, nil
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// needsUpgrade probes whether a load balancer in front of the proxy hides ALPN.
func (c *client) needsUpgrade(address string) bool {
	config := baseTLS()
	config.InsecureSkipVerify = c.insecure
	config.NextProtos = []string{alpnReverseTunnel}
	dialer := &net.Dialer{Timeout: probeTimeout}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, config)
	e := event{Kind: "probe", Name: alpnReverseTunnel, Target: address, Code: "OK"}
	needed := false
	if err != nil {
		e.Code, e.Message = "failed", err.Error()
		needed = strings.Contains(err.Error(), "no application protocol") ||
			strings.Contains(err.Error(), "unadvertised ALPN protocol")
	} else {
		e.ALPN = conn.ConnectionState().NegotiatedProtocol
		needed = e.ALPN == ""
		conn.Close()
	}
	c.record(e)
	return needed
}

// connectProxy makes the connection of a client without identity to a proxy address.
func (c *client) connectProxy(address string) (*link, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := baseTLS()
	config.ServerName = host
	config.NextProtos = []string{alpnProxyGRPC, alpnHTTP2}
	config.InsecureSkipVerify = c.insecure
	if !c.needsUpgrade(address) {
		return c.connect("proxy", address, config, dialTCP)
	}
	// Inside an upgraded connection the load balancer's name means nothing.
	config.InsecureSkipVerify = true
	config.VerifyConnection = verifyInsideUpgrade
	return c.connect("proxy", address, config, c.dialUpgrade)
}

// verifyInsideUpgrade checks that the server is one of a Teleport cluster, by its name alone.
func verifyInsideUpgrade(state tls.ConnectionState) error {
	problem := errors.New("server is not a Teleport proxy or server certificate is expired")
	if len(state.PeerCertificates) == 0 {
		return problem
	}
	leaf := state.PeerCertificates[0]
	now := time.Now()
	if leaf.VerifyHostname(clusterLocal) != nil || now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return problem
	}
	return nil
}

// dialUpgrade opens a connection through an HTTP upgrade.
func (c *client) dialUpgrade(ctx context.Context, address string) (net.Conn, error) {
	raw, err := dialTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(address)
	config := baseTLS()
	config.ServerName = host
	config.InsecureSkipVerify = c.insecure
	conn := tls.Client(raw, config)
	conn.SetDeadline(time.Now().Add(networkTimeout))
	var upgraded net.Conn
	if c.upgrade == "websocket" {
		upgraded, err = upgradeWebSocket(conn, host)
	} else {
		upgraded, err = upgradeLegacy(conn, host, c.upgrade)
	}
	e := event{Kind: "upgrade", Name: c.upgrade, Target: address, Code: "OK"}
	if err != nil {
		e.Code, e.Message = "failed", err.Error()
		conn.Close()
	} else {
		conn.SetDeadline(time.Time{})
	}
	c.record(e)
	return upgraded, err
}
