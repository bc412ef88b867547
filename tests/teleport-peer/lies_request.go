package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"teleport-peer/wire/authpb"
	"teleport-peer/wire/joinpb"
)

// honestLies must be accepted: they show that it is the lie that is refused elsewhere.
func honestLies() []*lie {
	software := both("none-software", mustAccept, "solution", "OK", "",
		"no lie: an honest join with the software EK that the token allows").needing("soft-ek")
	software.soft, software.Solves = &softAK{}, true
	raw := both("none-raw", mustAccept, "solution", "OK", "",
		"no lie: an honest join with an AK that this program made command by command").needing("tpm")
	raw.raw, raw.Solves = &rawAK{ek: "rsa"}, true
	return []*lie{
		both("none", mustAccept, "solution", "OK", "", "no lie: an honest join"),
		software,
		raw,
		both("unknown-fields", mustAccept, "solution", "OK", "",
			"an unknown field in every message, however deep").edited(addUnknownFields),
		both("no-version", mustAccept, "solution", "OK", "", "no version in the metadata").
			with(func(l *liar, _ *attempt) error { l.versionOnce(""); return nil }),
		both("old-version", mustEither, "solution", "OK", "", "a very old version in the metadata").
			with(func(l *liar, _ *attempt) error { l.versionOnce("1.0.0"); return nil }),
		onlyNew("no-join-method", mustAccept, "solution", "OK", "", "no join method in ClientInit").
			with(func(_ *liar, a *attempt) error { a.joinMethod = nil; return nil }),
	}
}

// requestLies are about token, role and method.
func requestLies() []*lie {
	return []*lie{
		both("token-empty", mustRefuse, "init", invalid, "missing parameter Token", "an empty token").
			newAnswers(invalid, "validating ClientInit message").
			with(func(_ *liar, a *attempt) error { a.token = ""; return nil }),
		both("token-unknown", mustRefuse, "init", denied, "token expired or not found", "a token that does not exist").
			with(func(_ *liar, a *attempt) error { a.token = "no-such-token"; return nil }),
		both("token-large", mustRefuse, "init", denied, "token expired or not found", "a token of 100,000 bytes").
			with(func(_ *liar, a *attempt) error { a.token = strings.Repeat("t", 100_000); return nil }),
		both("token-with-controls", mustRefuse, "init", denied, "token expired or not found",
			"a token that would write a second line to a log").
			with(func(_ *liar, a *attempt) error { a.token = "tok\n{\"event\":\"join\"}\x1b[2J"; return nil }),
		both("token-of-others", mustRefuse, "solution", denied,
			"validated tpm attributes did not match any allow rules", "a token that allows other TPMs only").
			needing("other-token").
			with(func(l *liar, a *attempt) error { a.token = l.otherToken; return nil }),
		both("role-node", mustRefuse, "init", invalid, "missing parameter HostID", "the role Node").
			newAnswers(invalid, "can not join the cluster, the token does not allow role").
			with(func(_ *liar, a *attempt) error { a.role = "Node"; return nil }),
		both("role-node-with-host-id", mustRefuse, "init", invalid, "the token does not allow", "the role Node, and a host ID").
			newAnswers(invalid, "can not join the cluster, the token does not allow role").
			with(func(_ *liar, a *attempt) error { a.role = "Node"; return nil }).
			alsoEdited(func(m *authpb.RegisterUsingTPMMethodInitialRequest) {
				m.JoinRequest.HostID = "0b4ad9a5-6a1c-4f7a-9a3e-6f7d3f1d2c11"
			}, nil),
		both("role-admin", mustRefuse, "init", invalid, "missing parameter HostID", "the role Admin").
			newAnswers(invalid, "can not join the cluster, the token does not allow role").
			with(func(_ *liar, a *attempt) error { a.role = "Admin"; return nil }),
		onlyNew("role-empty", mustRefuse, "client_init", invalid, "validating ClientInit message", "no role").
			with(func(_ *liar, a *attempt) error { a.role = ""; return nil }),
		onlyNew("join-method-mismatch", mustRefuse, "client_init", invalid,
			"provision token only supports method", "another join method than the token's").
			with(func(_ *liar, a *attempt) error { method := "iam"; a.joinMethod = &method; return nil }),
		onlyNew("proxy-parameters", mustRefuse, "client_init", denied,
			"client set ProxySuppliedParameters but did not authenticate as a proxy", "the parameters that a proxy supplies").
			edited(clientInit(func(init *joinpb.ClientInit) {
				init.ProxySuppliedParameters = &joinpb.ClientInit_ProxySuppliedParams{
					RemoteAddr: "192.0.2.1:1", ClientVersion: "18.5.0",
				}
			})),
		onlyNew("forwarded-by-proxy", mustRefuse, "client_init", invalid, "", "forwarded_by_proxy alone").
			edited(clientInit(func(init *joinpb.ClientInit) { init.ForwardedByProxy = true })),
		legacyOnly(both("claims-instance", mustEither, "solution", "OK", "",
			"a bot instance, a generation and a remote address that only a proxy may set; they must change nothing")).
			edited(legacyRequest(func(m *authpb.RegisterUsingTPMMethodInitialRequest) {
				m.JoinRequest.BotInstanceID = claimedInstance
				m.JoinRequest.PreviousBotInstanceID = claimedInstance
				m.JoinRequest.BotGeneration = 41
				m.JoinRequest.RemoteAddr = "192.0.2.1:1"
			})),
	}
}

const claimedInstance = "11111111-2222-4333-8444-555555555555"

// keyLies are about the public keys to certify.
func keyLies() []*lie {
	return []*lie{
		both("tls-key-unparsable", mustRefuse, "solution", unknown, "", "a TLS key that cannot be parsed").
			with(func(_ *liar, a *attempt) error {
				return withKey(a, func(key *botKey) {
					key.tlsDER, key.tlsPEM = []byte("no key"), []byte("no key")
				})
			}),
		both("ssh-key-unparsable", mustRefuse, "solution", unknown, "", "an SSH key that cannot be parsed").
			with(func(_ *liar, a *attempt) error {
				return withKey(a, func(key *botKey) {
					key.sshWire, key.sshLine = []byte("no key"), []byte("no key")
				})
			}),
		both("keys-differ", mustEither, "solution", "OK", "",
			"different keys for TLS and SSH; Teleport certifies both, and this client takes the TLS key's").
			with(func(_ *liar, a *attempt) error {
				other, err := newBotKey("balanced-v1")
				if err != nil {
					return err
				}
				return withKey(a, func(key *botKey) {
					key.sshWire, key.sshLine = other.sshWire, other.sshLine
				})
			}),
		both("key-ed25519", mustEither, "solution", "OK", "", "a key of an algorithm that no suite has").
			with(func(_ *liar, a *attempt) error { a.newKey = ed25519Key; return nil }),
		both("key-rsa-1024", mustEither, "solution", "OK", "", "an RSA key of 1024 bits").
			with(func(_ *liar, a *attempt) error { a.newKey = shortRSAKey; return nil }),
	}
}

// withKey changes the keys that the host sends.
func withKey(a *attempt, change func(*botKey)) error {
	a.newKey = func(suite string) (*botKey, error) {
		key, err := newBotKey(suite)
		if err == nil {
			change(key)
		}
		return key, err
	}
	return nil
}

// expiryLies are about the lifetime that the host asks for.
func expiryLies() []*lie {
	at := func(name, must, what string, expires *timestamppb.Timestamp) *lie {
		return both(name, must, "solution", "OK", "", what).
			with(func(_ *liar, a *attempt) error { a.expires = expires; return nil })
	}
	return []*lie{
		at("expires-absent", mustAccept, "no expiry: the server's default counts", nil),
		at("expires-far", mustAccept, "an expiry in 100 years: it is cut", timestamppb.New(time.Now().AddDate(100, 0, 0))),
		at("expires-past", mustEither, "an expiry an hour ago", timestamppb.New(time.Now().Add(-time.Hour))),
		at("expires-malformed", mustEither, "an expiry that is no time",
			&timestamppb.Timestamp{Seconds: 1 << 60, Nanos: -5}),
	}
}

// versionOnce sends another version in the metadata of this lie.
func (l *liar) versionOnce(version string) { l.version = version }

func ed25519Key(string) (*botKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return botKeyOf(key)
}

func shortRSAKey(string) (*botKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		return nil, err
	}
	return botKeyOf(key)
}
