//! Makes the seeds of what workloads, services and operators of them send: `cargo run -p fuzz --example record_workloads`.
//! With `-- key`, it makes the service's key of the fixtures before; the seeds contain it in the next run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use authority::issue::{JwtAlgorithm, JwtKey};
use fuzz::{fixtures, joined};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use prost::Message;
use proto::envoy::core::Node;
use proto::envoy::discovery::DiscoveryRequest;
use proto::envoy::rpc::Status;
use proto::spiffe::value::Kind;
use proto::spiffe::{JwtsvidRequest, Struct, ValidateJwtsvidRequest, Value};
use proto::v1::{JoinAnswer, ProveKeyInit, ProveKeyRequest, prove_key_request};
use tpm2::types::{EccParameter, EccPoint, EccPublic, Id, Public};
use tpm2::wire::Marshal;
use verifier::ServiceKey;

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("key") {
        return write("fixtures/service-key.public", &service_key()?);
    }
    proofs()?;
    calls()?;
    streams()?;
    ssh()?;
    claims()?;
    command_lines()
}

/// The public area of a new key.
fn service_key() -> Result<Vec<u8>> {
    let spki = JwtKey::generate(JwtAlgorithm::Es256)?.public().to_spki()?;
    // SEC 1, section 2.3.3: both coordinates at the end.
    let (_, point) = spki.split_at_checked(spki.len() - 64).context("a P-256 key")?;
    let (x, y) = point.split_at(32);
    let template = ServiceKey::template();
    let Id::Ecc(ecc) = template.id else { anyhow::bail!("the template is of an RSA key") };
    let unique = EccPoint { x: EccParameter::new(x)?, y: EccParameter::new(y)? };
    Ok(Public { id: Id::Ecc(EccPublic { unique, ..ecc }), ..template }.to_vec()?)
}

fn proofs() -> Result<()> {
    use prove_key_request::Step;
    let (stranger, bot, output) = (0, 1, 2);
    let init = |key: &[u8]| {
        let (ek_public, service) = (fixtures::ek_spki(), "db".to_owned());
        let init = ProveKeyInit { ek_public, ek_name_alg: 0, key: key.to_vec(), service };
        ProveKeyRequest { step: Some(Step::Init(init.encode_to_vec())) }.encode_to_vec()
    };
    let answer = JoinAnswer { mac: vec![7; 32], signature: vec![0x30, 6, 2, 1, 1, 2, 1, 1] };
    let answer = ProveKeyRequest { step: Some(Step::Answer(answer)) }.encode_to_vec();
    let (known, new) = (init(fixtures::SERVICE_KEY), init(&service_key()?));
    for (name, who, messages) in [
        ("on-record", bot, &[&known[..]][..]),
        ("new", bot, &[&new]),
        ("new-answered", bot, &[&new, &answer]),
        ("refused-stranger", stranger, &[&new]),
        ("refused-output", output, &[&known]),
        ("refused-answer-first", bot, &[&answer, &new]),
        ("refused-join-key", bot, &[&init(fixtures::JOIN_KEY)]),
    ] {
        seed("prove_key", name, &[&[who][..], &joined(messages)].concat())?;
    }
    Ok(())
}

fn calls() -> Result<()> {
    let jwt = |audience: &[&str], id: &str| {
        let audience = audience.iter().map(ToString::to_string).collect();
        JwtsvidRequest { audience, spiffe_id: id.into() }.encode_to_vec()
    };
    let token = String::from_utf8(fs::read(home().join("seeds/jwt_svid/refused-expired"))?)?;
    let validate = |svid: &str, audience: &str| {
        ValidateJwtsvidRequest { svid: svid.into(), audience: audience.into() }.encode_to_vec()
    };
    for (name, choice, message) in [
        ("x509-svids", 0, Vec::new()),
        ("refused-without-header", 0x80, Vec::new()),
        ("x509-bundles", 1, Vec::new()),
        ("jwt-svids", 2, jwt(&["vault", "api://x"], "")),
        ("jwt-svid", 2, jwt(&["vault"], "spiffe://td/b")),
        ("refused-other-id", 2, jwt(&["vault"], "spiffe://td/c")),
        ("refused-no-audience", 2, jwt(&[], "")),
        ("jwt-bundles", 3, Vec::new()),
        ("refused-expired", 4, validate(&token, "x")),
        ("refused-no-token", 4, validate("a.b.c", "x")),
        ("refused-wit-svid", 5, Vec::new()),
        ("refused-wit-bundles", 6, Vec::new()),
        ("refused-unknown-method", 7, Vec::new()),
    ] {
        seed("workload_call", name, &[&[choice][..], &message].concat())?;
    }
    Ok(())
}

fn streams() -> Result<()> {
    let metadata = |key: &str, kind| {
        let fields = [(key.to_owned(), Value { kind: Some(kind) })].into();
        Some(Node { metadata: Some(Struct { fields }), ..Node::default() })
    };
    let request = |names: &[&str], version: &str| DiscoveryRequest {
        version_info: version.into(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".into(),
        response_nonce: if version.is_empty() {
            String::new()
        } else {
            format!("0000000{version}")
        },
        ..DiscoveryRequest::default()
    };
    let rejected = Some(Status { code: 3, message: "no private key".into() });
    let plain = metadata("disable_spiffe_cert_validation", Kind::BoolValue(true));
    let renamed = metadata("default_svid_name", Kind::StringValue("mine".into()));
    for (name, choice, requests) in [
        ("default", 0, vec![request(&["default"], ""), request(&["default"], "0")]),
        ("all", 0, vec![request(&[], "")]),
        ("names", 0, vec![request(&["spiffe://td/a"], ""), request(&["ROOTCA", "ALL"], "0")]),
        ("plain", 0, vec![DiscoveryRequest { node: plain, ..request(&["spiffe://td"], "") }]),
        ("renamed", 0, vec![DiscoveryRequest { node: renamed, ..request(&["mine"], "") }]),
        (
            "rejected",
            0,
            vec![
                request(&["default"], ""),
                DiscoveryRequest { error_detail: rejected, ..request(&["default"], "0") },
            ],
        ),
        ("fetched", 1, vec![request(&["spiffe://td/b"], "")]),
        ("refused-other", 0, vec![request(&["spiffe://td/c"], "")]),
        ("refused-nothing", 0, vec![]),
    ] {
        let requests: Vec<Vec<u8>> = requests.iter().map(Message::encode_to_vec).collect();
        let requests: Vec<&[u8]> = requests.iter().map(Vec::as_slice).collect();
        seed("sds_stream", name, &[&[choice][..], &joined(&requests)].concat())?;
    }
    Ok(())
}

/// A login by a key to a host, signatures of files, and those of sshd.
fn ssh() -> Result<()> {
    let blob = |key: &SigningKey| {
        let point = key.verifying_key().to_sec1_point(false);
        let (kind, curve) = (&b"ecdsa-sha2-nistp256"[..], &b"nistp256"[..]);
        [kind, curve, point.as_bytes()].map(string).concat()
    };
    let [host, user] = [3, 4].map(|octet| SigningKey::from_slice(&[octet; 32]));
    let (host, user) = (host?, user?);
    let (host_key, key) = (blob(&host), blob(&user));
    let id = [7; 32];
    let signature: Signature = host.sign(&id);
    let (r, s) = signature.split_bytes();
    let scalars = [mpint(&r), mpint(&s)].concat();
    let signature = [&b"ecdsa-sha2-nistp256"[..], &scalars].map(string).concat();
    let bind = |flag: u8| {
        let fields = [&b"session-bind@openssh.com"[..], &host_key, &id, &signature];
        [&[27][..], &fields.map(string).concat(), &[flag]].concat()
    };
    let login = |method: &str, host_key: Vec<u8>| {
        let names = [&b"root"[..], b"ssh-connection", method.as_bytes()].map(string).concat();
        let named = [&b"ecdsa-sha2-nistp256"[..], &key].map(string).concat();
        [&string(&id)[..], &[50], &names, &[1], &named, &host_key].concat()
    };
    let sign = |data: &[u8]| [&[13][..], &[&key[..], data].map(string).concat(), &[0; 4]].concat();
    let plain = sign(&login("publickey", Vec::new()));
    let bound = sign(&login("publickey-hostbound-v00@openssh.com", string(&host_key)));
    let file = [&b"git"[..], b"", b"sha512", &[9; 64]].map(string).concat();
    let file = sign(&[&b"SSHSIG"[..], &file].concat());
    let proof = [&b"hostkeys-prove-00@openssh.com"[..], &id, &key].map(string).concat();
    let query = [&[27][..], &string(b"query")].concat();
    for (name, purpose, messages) in [
        ("list", 0, vec![&[11][..]]),
        ("query", 0, vec![&query]),
        ("login", 0, vec![&plain]),
        ("bound-login", 0, vec![&bind(0), &[11], &bound]),
        ("forwarded", 0, vec![&bind(1)]),
        ("file", 0, vec![&file]),
        ("key-exchange", 1, vec![&sign(&[9; 32])]),
        ("host-key-proof", 1, vec![&sign(&proof)]),
        ("refused-other-purpose", 1, vec![&plain]),
        ("refused-add", 0, vec![&[17, 0, 0, 0, 0][..]]),
        ("refused-lock", 0, vec![&[22, 0, 0, 0, 0][..]]),
    ] {
        seed("ssh_agent", name, &[&[purpose][..], &joined(&messages)].concat())?;
    }
    Ok(())
}

/// RFC 4251, section 5.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

fn mpint(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = bytes.get(zeros..).unwrap_or_default();
    let sign = if bytes.first().is_some_and(|byte| *byte & 0x80 != 0) { &[0][..] } else { &[] };
    string(&[sign, bytes].concat())
}

fn claims() -> Result<()> {
    for (name, id, claims, stated) in [
        ("none", "/web", "{}", ""),
        ("plain", "/{{ user.bot_name }}/web", r#"{"team": "a", "level": 3}"#, ""),
        (
            "nested",
            "/svc/{{ workload.systemd.service }}",
            r#"{"a": [{"b": "{{ workload.unix.uid }}"}, null, true, 1.5]}"#,
            "nginx.service",
        ),
        ("refused-slash", "/svc/{{ workload.systemd.service }}", "{}", "a/b"),
        ("refused-own", "/endorse/{{ user.bot_name }}", "{}", ""),
        ("refused-reserved", "/web", r#"{"sub": "spiffe://example.test/other"}"#, ""),
        ("refused-absent", "/web", r#"{"a": "{{ workload.container.id }}"}"#, ""),
        ("refused-several", "/web", r#"{"a": "{{ workload.unix.supplementary_gids }}"}"#, ""),
    ] {
        let input = joined(&[id.as_bytes(), claims.as_bytes(), stated.as_bytes()]);
        seed("jwt_claims", name, &input)?;
    }
    Ok(())
}

/// As the guides of Teleport and of this project have them.
fn command_lines() -> Result<()> {
    for (name, line) in [
        ("start", "tbot start -c /etc/tbot.yaml"),
        ("start-before", "tbot -c /etc/tbot.yaml -d start"),
        (
            "identity",
            "tbot start identity --destination ./id --proxy-server example.com:443 --token t --join-method tpm --storage ./s",
        ),
        ("oneshot", "tbot start --no-oneshot -c f"),
        ("configure", "tbot configure identity --destination file:///opt/machine-id --token t"),
        (
            "join",
            "agent join --authority a:3025 --ca-pin sha256:0000000000000000000000000000000000000000000000000000000000000000 --token t --storage s",
        ),
        ("identify", "agent tpm identify"),
        ("refused-version", "tbot --version"),
        ("refused-help", "tbot start --help"),
        ("refused-insecure", "tbot start --insecure -c f"),
        ("refused-proxy", "tbot proxy db -- a --b"),
        ("refused-service", "tbot start kubernetes --destination d"),
        ("refused-both", "tbot start --auth-server a:1 --proxy-server b:2"),
    ] {
        seed("command_line", name, format!("{line} ").replace(' ', "\0").as_bytes())?;
    }
    Ok(())
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn seed(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    write(&format!("seeds/{target}/{name}"), bytes)
}

fn write(name: &str, bytes: &[u8]) -> Result<()> {
    let path = home().join(name);
    fs::create_dir_all(path.parent().context("a directory")?)?;
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
}
