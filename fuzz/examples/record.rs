//! Records the fixtures and the seeds: `cargo run -p fuzz --example record`, twice, since the second run knows
//! the fixtures of the first. Needs swtpm. `cargo run -p fuzz --example record golden` takes only what the golden messages
//! of `tpm2` have.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::credential::identity::{Identity, Joined};
use agent::credential::{Credentials, Voucher};
use agent::tpm::attester::{Attester, JoinKey as ResidentKey, KeysToMake};
use agent::tpm::inventory::{self, EkChoice};
use agent::tpm::passwords::Passwords;
use anyhow::{Context, Result, ensure};
use authority::issue::{
    CaKey, ClusterName, Issuer, JwtAlgorithm, JwtKey, Profile, SshCa, SubjectKey, Ttl, Validity,
    X509Ca,
};
use authority::resource::{BotInstance, ProvenEk, Resource, read};
use base64ct::{Base64, Encoding};
use fuzz::teleport_call::METHODS;
use fuzz::{Target, Verdict, joined};
use prost::Message;
use proto::teleport::{join_v1, legacy};
use proto::v1::join_init::Ek;
use proto::v1::{
    IssuedCredentials, JoinAnswer, JoinChallenge, JoinInit, JoinRequest, JoinResponse,
    join_request, join_response,
};
use testkit::simulated::{SoftwareTpm, TeleportHost};
use testkit::swtpm::{Factory, Kind, Maker, Manufactured};
use time::OffsetDateTime;
use tls::CaPin;
use tpm2::Tpm;
use tpm2::commands::{
    ActivateCredential, COMMANDS, CreatePrimary, GetCapability, GetRandom, LoadExternal,
    NvReadPublic, PcrRead, PolicyGetDigest, PolicyOr, PolicySecret, ReadPublic, SelfTest, Shutdown,
    Sign,
};
use tpm2::crypto::{HashAlg, make_credential, object_name};
use tpm2::endorsement::{self, EkKind};
use tpm2::session::Auth;
use tpm2::template::policy;
use tpm2::transport::{AnyTransport, Exchange, Record, Recording, Tcti};
use tpm2::types::{
    AsymScheme, Capability, Data, Digest, Entity, Hierarchy, Nonce, NvIndex, Object, PcrSelection,
    Public, SensitiveCreate, SessionType, Startup, Ticket,
};
use tpm2::wire::{List, Marshal, Tpm2b, Unmarshal, Writer};
use verifier::JoinKey;
use verifier::{Claim, Demand, Effort, EkClaim, KeyClaim};
use x509_cert::der::pem::{self, LineEnding};

const UNIQUE: [u8; 32] = [7; 32];

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("golden") {
        credentials()?;
        return golden();
    }
    if std::env::args().nth(1).as_deref() == Some("teleport") {
        return teleport();
    }
    let factory = Factory::shared();
    let ca = factory.ca(Maker::Vendor)?;
    fixture("ek-root.pem", ca.root_pem().as_bytes())?;
    fixture("ek-issuer.pem", ca.issuer_pem().as_bytes())?;
    let of = |kind| factory.tpm(Maker::Vendor, kind);
    let two = of(Kind::RsaAndP384)?;

    identify(&two, "two-certificates")?;
    identify(&of(Kind::NoCertificates)?, "no-certificate")?;
    join(&two, "rsa2048", &ca)?;
    join(&two, "p384", &ca)?;
    let certified = join(&of(Kind::P256)?, "p256", &ca)?;
    commands(&two)?;
    issued(certified)?;
    resources(ca.root_pem())?;
    teleport()?;
    addresses()?;
    credentials()?;
    golden()
}

/// A TPM that is switched on, with a record of what it is asked.
struct Bench {
    tpm: Tpm<Record<Way>>,
    recording: Recording,
    _swtpm: testkit::swtpm::Swtpm,
}

type Way = AnyTransport;

impl Bench {
    fn new(made: &Manufactured) -> Result<Self> {
        let swtpm = made.start()?;
        let recording = Recording::default();
        let way = swtpm.tcti().parse::<Tcti>()?.open()?;
        let tpm = Tpm::new(Record::new(way, recording.clone()));
        Ok(Self { tpm, recording, _swtpm: swtpm })
    }

    /// What the join took of the TPM, as docs/performance.md has it.
    fn tell(&self, name: &str) {
        const FLUSH_CONTEXT: [u8; 4] = [0, 0, 0x01, 0x65];
        const NV_READ: [u8; 4] = [0, 0, 0x01, 0x4e];
        let of = |without: &[[u8; 4]]| {
            let all = self.recording.exchanges().into_iter();
            let counted = all.filter(|e| !without.iter().any(|code| e.command[6..10] == *code));
            counted.fold([0; 3], |[count, sent, received], e| {
                [count + 1, sent + e.command.len(), received + e.response.len()]
            })
        };
        let [count, sent, received] = of(&[FLUSH_CONTEXT]);
        println!("{name}: {count} commands, {sent} octets sent, {received} received");
        let [count, sent, received] = of(&[FLUSH_CONTEXT, NV_READ]);
        println!("{name}, certificate known: {count}, {sent} sent, {received} received");
    }

    /// The answers to all that is not flushing, as the target `tpm_dialogue` takes them.
    fn dialogue(&self, what: u8) -> Vec<u8> {
        let exchanges = self.recording.exchanges();
        let flush = [0, 0, 0x01, 0x65];
        let wanted = exchanges.iter().filter(|exchange| exchange.command[6..10] != flush);
        let answers: Vec<_> = wanted.map(|exchange| exchange.response.as_slice()).collect();
        [&[what][..], &joined(&answers)].concat()
    }

    /// Each answer as the target `tpm_response` takes it.
    fn responses(&self) -> Result<()> {
        let target = Target::by_name("tpm_response").context("no such target")?;
        for Exchange { command, response } in self.recording.exchanges() {
            let code = u32::from_be_bytes(command[6..10].try_into()?);
            let which = COMMANDS.iter().position(|info| info.code.0 == code);
            let which = which.context("a command that is not in the table")?;
            let how = match &command[..2] {
                [0x80, 0x01] => 0,
                _ => {
                    let auth = 10 + 4 * COMMANDS[which].handles.len() + 4;
                    let count = COMMANDS[which].authorizations;
                    let size = u32::from_be_bytes(command[auth - 4..auth].try_into()?);
                    match command[auth] {
                        0x40 if size as usize == 9 * count => 0,
                        0x02 => 2,
                        _ => 3,
                    }
                }
            };
            let input = [&command[8..10], &[how], &response[..]].concat();
            // What a salted session protected is only for the side that salted it.
            let verdict = match how {
                3 => "refused-",
                _ if (target.run)(&input) == Verdict::Refused => "refused-",
                _ => "",
            };
            let name = COMMANDS[which].name.trim_start_matches("TPM2_");
            let way = ["password", "policy", "hmac", "salted"][usize::from(how)];
            seed_next("tpm_response", &format!("{verdict}{name}-{way}"), &input)?;
            if how == 0 && command[..2] == [0x80, 0x02] && verdict.is_empty() {
                let input = [&command[8..10], &[1], &response[..]].concat();
                seed_next("tpm_response", &format!("{name}-policy"), &input)?;
            }
        }
        Ok(())
    }
}

fn identify(made: &Manufactured, name: &str) -> Result<()> {
    let mut bench = Bench::new(made)?;
    inventory::tpm(&mut bench.tpm)?;
    seed("tpm_dialogue", &format!("properties-{name}"), &bench.dialogue(1))?;
    let mut bench = Bench::new(made)?;
    inventory::report_all(&mut bench.tpm, &Passwords::default())?;
    seed("tpm_dialogue", &format!("report-{name}"), &bench.dialogue(0))?;
    bench.responses()
}

/// What a join leaves for the network's part.
struct Certified {
    attester: Attester,
    public: Vec<u8>,
}

fn join(made: &Manufactured, name: &str, ca: &testkit::swtpm::Ca) -> Result<Certified> {
    let kind = EkKind::by_name(name).context("no such kind")?;
    let mut bench = Bench::new(made)?;
    let mut attester = Attester::prepare(
        &mut bench.tpm,
        EkChoice::Kind(kind),
        None,
        &Passwords::default(),
        KeysToMake::only(&UNIQUE),
    )?;
    let choice = if name == "p384" { 4 } else { 3 };
    seed("tpm_dialogue", &format!("refused-prepare-{name}"), &bench.dialogue(choice))?;

    let certificate = attester.ek().certificate.clone().context("no certificate")?;
    let public = attester.join_key().public().to_vec();
    let spki = attester.ek().key.spki_der();
    fixture(&format!("ek-{name}.der"), certificate.der())?;
    seed("ek_certificate", name, certificate.der())?;
    let wrapped = [&[0x10, 0x01, 0, 0x03, 0x20], certificate.der(), &[0xff; 16]].concat();
    seed("ek_certificate", &format!("{name}-in-nv"), &wrapped)?;
    seed("ek_spki", name, &spki)?;
    seed("tpm_public", &format!("join-key-{name}"), &public)?;
    let issuer = verifier::pem::certificates(ca.issuer_pem())?.remove(0);
    let chain = [&[0][..], &joined(&[certificate.der(), &issuer])].concat();
    seed("ek_chain", &format!("{name}-root-issuer"), &chain)?;
    let chain = [&[3][..], &joined(&[certificate.der()])].concat();
    seed("ek_chain", &format!("{name}-issuer"), &chain)?;

    let init = |ek, ek_chain| JoinInit {
        token: "my-bot-token".into(),
        ek: Some(ek),
        ek_chain,
        join_key: public.clone(),
        hostname: "host.example".into(),
        agent_version: "0.1.0".into(),
        ttl_seconds: 0,
        ek_name_alg: 0,
        join_id: vec![7; 16],
    };
    let by_certificate = || Ek::EkCertificate(certificate.der().to_vec());
    let inits = [
        (0, "root-issuer", init(by_certificate(), vec![issuer])),
        (2, "issuer", init(by_certificate(), vec![])),
        (1, "certificate", init(by_certificate(), vec![])),
        (1, "key", init(Ek::EkPublic(spki), vec![])),
    ];
    for (demand, what, init) in inits {
        let step = join_request::Step::Init(init.encode_to_vec());
        let request = JoinRequest { step: Some(step) }.encode_to_vec();
        let input = [&[demand][..], &request].concat();
        seed("join_request", &format!("{name}-{what}"), &input)?;
    }

    let ek = EkClaim::Certificate(certificate.der());
    let claim = Claim { ek, ek_chain: &[], key: KeyClaim::JoinKey(&public), ek_name_alg: 0 };
    let challenge = verifier::appraise(&claim, Demand::Key, &mut Effort::default())?.challenge()?;
    let secret = attester.activate(&mut bench.tpm, challenge.blob(), challenge.encrypted_seed())?;
    ensure!(secret == *challenge.secret(), "the TPM and we disagree");
    let [r, s] = attester.join_key().sign(&mut bench.tpm, &[7; 32])?;
    let signature = p256::ecdsa::Signature::from_scalars(r, s)?.to_der().as_bytes().to_vec();
    let answer = JoinAnswer { mac: vec![7; 32], signature };
    let request = JoinRequest { step: Some(join_request::Step::Answer(answer)) };
    let input = [&[0][..], &request.encode_to_vec()].concat();
    seed("join_request", &format!("refused-{name}-answer"), &input)?;
    let step = join_response::Step::Challenge(JoinChallenge {
        credential_blob: challenge.blob().to_vec(),
        encrypted_seed: challenge.encrypted_seed().to_vec(),
    });
    let response = JoinResponse { step: Some(step) }.encode_to_vec();
    seed("join_result", &format!("refused-{name}-challenge"), &response)?;
    bench.tell(name);
    bench.responses()?;

    let mut bench = Bench::new(made)?;
    ResidentKey::load(&mut bench.tpm, attester.join_key().known())?
        .sign(&mut bench.tpm, &[7; 32])?;
    let other = if name == "p256" { "" } else { "refused-" };
    seed("tpm_dialogue", &format!("{other}load-{name}"), &bench.dialogue(2))?;

    let resident = endorsement::find(&mut bench.tpm, kind)?.context("no persistent EK")?;
    let area = marshalled(&resident.public()?)?;
    seed("tpm_public", &format!("ek-{name}"), &area)?;
    if name == "p256" {
        fixture("ek-p256.public", &area)?;
        fixture("join-key.public", &public)?;
    }
    Ok(Certified { attester, public })
}

/// Every other command, and those that the join protects without protection.
fn commands(made: &Manufactured) -> Result<()> {
    let mut bench = Bench::new(made)?;
    let tpm = &mut bench.tpm;
    tpm.run(&SelfTest { full_test: false }, [])?;
    tpm.run(&GetRandom { bytes_requested: 16 }, [])?;
    for (capability, property) in [(0, 0), (1, 0x8100_0000), (2, 0x11f), (5, 0), (6, 0x100), (8, 0)]
    {
        let capability = Capability(capability);
        // What this crate cannot read is a seed all the same.
        let _ = tpm.run(&GetCapability { capability, property, property_count: 64 }, []);
    }
    let selection = [PcrSelection::new(HashAlg::Sha256.alg(), &[0xff, 0, 0])?];
    tpm.run(&PcrRead { pcr_selection_in: List::new(&selection) }, [])?;
    let nv_index = NvIndex::unnamed(EkKind::by_name("rsa2048").context("a kind")?.certificate);
    tpm.run(&NvReadPublic { nv_index }, [])?;

    let kind = EkKind::by_name("p384").context("a kind")?;
    let ek = endorsement::find(tpm, kind)?.context("no persistent EK")?;
    let ek_area = ek.public()?;
    tpm.run(&ReadPublic { object_handle: Object::unnamed(ek.handle()) }, [])?;
    let loaded = tpm.run(
        &LoadExternal {
            in_private: None,
            in_public: Tpm2b(ek_area),
            hierarchy: Hierarchy::Endorsement,
        },
        [],
    )?;
    let loaded = loaded.object_handle.handle();
    tpm.flush(loaded)?;

    let create = CreatePrimary {
        primary_handle: Hierarchy::Endorsement,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(JoinKey::template(&UNIQUE)),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&selection),
    };
    let answer = tpm.run(&create, [Auth::EMPTY])?;
    let key = answer.object_handle.named(object_name(&answer.out_public.0)?);
    let digest = Digest::from(&[7; 32]);
    let in_scheme = AsymScheme::Null;
    let sign = Sign { key_handle: key, digest, in_scheme, validation: Ticket::NO_HASHCHECK };
    tpm.run(&sign, [Auth::EMPTY])?;
    let name = key.name().context("it was computed")?;
    let credential = make_credential(&ek_area, &name, &[7; 32])?;
    let activate = ActivateCredential {
        activate_handle: key,
        key_handle: Object::unnamed(ek.handle()),
        credential_blob: credential.blob(),
        secret: credential.secret(),
    };
    tpm.run(&activate, [Auth::EMPTY, Auth::EMPTY])?;

    let mut hmac = tpm.start_session(SessionType::HMAC, HashAlg::Sha256)?;
    tpm.run(&create, [hmac.auth(&[])])?;
    tpm.run(&sign, [hmac.auth(&[])])?;

    let policy = tpm.start_session(SessionType::POLICY, HashAlg::Sha384)?;
    let policy_session = policy.handle();
    let secret = PolicySecret {
        auth_handle: Hierarchy::Endorsement.into(),
        policy_session,
        nonce_tpm: Nonce::EMPTY,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        expiration: 0,
    };
    tpm.run(&secret, [Auth::EMPTY])?;
    let branches = [Digest::new(&policy::A_SHA384)?, Digest::new(&policy::C_SHA384)?];
    tpm.run(&PolicyOr { policy_session, p_hash_list: List::new(&branches) }, [])?;
    tpm.run(&PolicyGetDigest { policy_session }, [])?;
    tpm.run(&Shutdown { shutdown_type: Startup::CLEAR }, [])?;
    tpm.flush_all()?;
    bench.responses()?;
    // A TPM that runs refuses TPM2_Startup; its success has no parameters either.
    let tested = fs::read(home().join("seeds/tpm_response/SelfTest-password-1"))?;
    let started = [&[0x01, 0x44], tested.get(2..).unwrap_or_default()].concat();
    seed("tpm_response", "Startup-password-1", &started)
}

/// What the authority gives for the join, and what the host keeps of it.
fn issued(certified: Certified) -> Result<()> {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0)?;
    let cluster: ClusterName = "example.test".parse()?;
    let x509 = X509Ca::create(&cluster, CaKey::generate()?, now)?;
    let ssh = SshCa::new(&cluster, &CaKey::generate()?)?;
    let ssh_host = SshCa::of_hosts(&cluster, &CaKey::generate()?)?;
    let jwt = JwtKey::generate(JwtAlgorithm::Es256)?;
    let issuer = Issuer::new(cluster, x509, ssh, ssh_host, jwt);
    let Resource::Bot(bot) = read(BOT)?.remove(0) else { anyhow::bail!("not a bot") };
    let join_key = verifier::JoinKey::appraise(&certified.public)?;
    let public_hash = "ab".repeat(32).parse()?;
    let ek = ProvenEk {
        public_hash,
        certificate_serial: None,
        certificate_issuer: None,
        verified_by: None,
    };
    let (name, token) = ("example".parse()?, "my-bot-token".parse()?);
    let instance = BotInstance::joining(name, token, ek, String::new(), now);
    let (key, validity) = (join_key.verifying_key().into(), Validity { now, ttl: Ttl::default() });
    let given = issuer.credentials(&bot, &instance, Profile::identity(1), &key, validity)?;
    let result = IssuedCredentials {
        certificates: vec![given.x509.to_vec()],
        x509_authorities: vec![issuer.x509().certificate().to_vec()],
        ssh_certificate: given.ssh.clone(),
        ssh_authorities: issuer.keyring().keys().ssh.public_keys(),
        ssh_host_authorities: issuer.keyring().keys().ssh_host.public_keys(),
        trust_version: issuer.keyring().keys().chain.version(),
        min_trust_version: 0,
        cluster: "example.test".into(),
        bot: "example".into(),
        instance: instance.spec.instance_id.to_string(),
        not_after: given.not_after.unix_timestamp(),
        not_before: given.not_before.unix_timestamp(),
        generation: 1,
    };
    let pin = CaPin::of_certificate(issuer.x509().certificate())?;
    let seconds = now.unix_timestamp();
    fixture("host.der", &given.x509)?;
    fixture("pin", format!("{pin}\n").as_bytes())?;
    fixture("now", format!("{seconds}\n").as_bytes())?;
    let step = Some(join_response::Step::Result(result.clone()));
    seed("join_result", "result", &JoinResponse { step }.encode_to_vec())?;
    teleport_results(&result)?;
    seed("address", "pin", format!("\x01{pin}").as_bytes())?;

    let credentials = Credentials::verify(
        result.into(),
        join_key.verifying_key(),
        Voucher::ClusterCas(&[pin]),
        u64::try_from(seconds)?,
    )
    .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let joined = Joined {
        authority: "authority.example:3025".into(),
        ca_pins: vec![pin],
        first_contact: format!("CA pin {pin}"),
        token: "my-bot-token".into(),
        at: seconds,
        ttl: Duration::from_secs(3600),
    };
    let ek = certified.attester.ek();
    let identity = Identity::new(joined, credentials, ek, certified.attester.join_key().known())
        .map_err(|failure| anyhow::anyhow!("{failure}"))?;
    seed("identity", "joined", serde_json::to_string_pretty(&identity)?.as_bytes())
}

/// The same as the services of a Teleport cluster would give it.
fn teleport_results(result: &IssuedCredentials) -> Result<()> {
    let wire = |line: &str| {
        let base64 = line.split_ascii_whitespace().nth(1).context("no key")?;
        Base64::decode_vec(base64).map_err(anyhow::Error::msg)
    };
    let ssh_cas = || result.ssh_authorities.iter().chain(&result.ssh_host_authorities);
    let newer = join_v1::Certificates {
        tls_cert: result.certificates.concat(),
        tls_ca_certs: result.x509_authorities.clone(),
        ssh_cert: wire(&result.ssh_certificate)?,
        ssh_ca_keys: ssh_cas().map(|key| wire(key)).collect::<Result<_>>()?,
    };
    seed("teleport_result", "newer", &[&[0], &*newer.encode_to_vec()].concat())?;
    let pem = |der: &[u8]| {
        let base64 = Base64::encode_string(der);
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n").into_bytes()
    };
    let older = legacy::Certs {
        ssh: result.ssh_certificate.clone().into_bytes(),
        tls: pem(&result.certificates.concat()),
        tls_ca_certs: result.x509_authorities.iter().map(|der| pem(der)).collect(),
        ssh_ca_certs: ssh_cas().map(|key| key.clone().into_bytes()).collect(),
    };
    seed("teleport_result", "older", &[&[1], &*older.encode_to_vec()].concat())
}

const BOT: &str = "kind: bot
version: v1
metadata:
  name: example
spec:
  roles: [access, 'dev, ops']
  traits:
    - name: logins
      values: [root, 'no', '1']
  max_session_ttl: 30m0s
";

const TOKEN: &str = r#"kind: token
version: v2
metadata:
  name: my-bot-token
  expires: 2030-01-01T00:00:00Z
spec:
  roles: [Bot]
  join_method: tpm
  bot_name: my-bot
  tpm:
    # joining TPMs must present an EKCert signed by one of these; optional
    ekcert_allowed_cas:
      - |
CERTIFICATE
    # the TPM must match one rule: all fields set in a rule must match
    allow:
      - description: "example-server-100"
        ek_public_hash: "6c5aada1c5abee6d869369a0cae3b3b9e9a9f0a1b2c3d4e5f60718293a4b5c6d"
        ek_certificate_serial: "5e:cd:5f:8e"
      - description: |
          two
          lines
        ek_certificate_serial: '01:02'
"#;

/// The documents of the guide.
fn resources(pem: &str) -> Result<()> {
    let indented: Vec<_> = pem.lines().map(|line| format!("        {line}")).collect();
    let token = TOKEN.replace("CERTIFICATE", &indented.join("\n"));
    let plain = "kind: bot\nversion: v1\nmetadata:\n  name: example\nspec:\n  roles: []\n";
    seed("resource", "bot-of-the-guide", plain.as_bytes())?;
    seed("resource", "bot", BOT.as_bytes())?;
    seed("resource", "token", token.as_bytes())?;
    seed("resource", "stream", format!("# two\n---\n{BOT}---\n{token}").as_bytes())?;
    seed(
        "resource",
        "flow",
        b"{kind: bot, version: v1, metadata: {name: a, labels: {b: c}}, spec: {}}",
    )?;
    seed("ca_bundle", "one", pem.as_bytes())?;
    seed("ca_bundle", "two", format!("# the root\n{pem}\nthe same:\r\n{pem}").as_bytes())
}

/// For the join key, to each of the endorsement keys.
fn credentials() -> Result<()> {
    let directory = home().join("seeds/tpm_public");
    let join_key = fs::read(home().join("fixtures/join-key.public"))?;
    let name = object_name(&Public::from_bytes(&join_key)?)?;
    for kind in ["rsa2048", "p256", "p384"] {
        let ek = fs::read(directory.join(format!("ek-{kind}")))?;
        let made = make_credential(&Public::from_bytes(&ek)?, &name, &[7; 32])?;
        let (blob, secret) = (made.blob(), made.secret());
        let input = joined(&[&ek, name.octets(), &[7; 32], blob.octets(), secret.octets()]);
        seed("tpm_credential", kind, &input)?;
    }
    Ok(())
}

fn addresses() -> Result<()> {
    for (name, text) in [
        ("device", "\0device:/dev/tpmrm0"),
        ("device-short", "\0device"),
        ("path", "\0/dev/tpm0"),
        ("swtpm-tcp", "\0swtpm:host=localhost,port=2321"),
        ("swtpm-unix", "\0swtpm:path=/run/swtpm.sock"),
        ("name", "\x02my-bot.example_1"),
        ("hash", "\x036C5AADA1C5ABEE6D869369A0CAE3B3B9E9A9F0A1B2C3D4E5F60718293A4B5C6D"),
        ("serial", "\x0400:5E:cd:5f:8e"),
        ("cluster", "\x05example.test"),
    ] {
        seed("address", name, text.as_bytes())?;
    }
    Ok(())
}

fn marshalled(public: &Public<'_>) -> Result<Vec<u8>> {
    let mut octets = [0; 1024];
    let mut writer = Writer::new(&mut octets);
    public.marshal(&mut writer)?;
    Ok(writer.into_written().to_vec())
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str, bytes: &[u8]) -> Result<()> {
    write(home().join("fixtures").join(name), bytes)
}

fn seed(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    write(home().join("seeds").join(target).join(name), bytes)
}

/// One more seed of this name, unless the very same is there.
fn seed_next(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    const MAX_SEEDS: usize = 4;
    let directory = home().join("seeds").join(target);
    let place = |number| directory.join(format!("{name}-{number}"));
    let taken: BTreeMap<usize, Vec<u8>> = (1..=MAX_SEEDS)
        .filter_map(|number| Some((number, fs::read(place(number)).ok()?)))
        .collect();
    if taken.len() >= MAX_SEEDS || taken.values().any(|seed| seed.len() == bytes.len()) {
        return Ok(());
    }
    write(place(taken.len() + 1), bytes)
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().context("a directory")?;
    fs::create_dir_all(directory)?;
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// What was recorded for `tpm2` before: of each command one, and whatever was attested.
fn golden() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tpm2/testdata/golden");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    let all: Vec<String> = files.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let all = all.join("\n");
    let octets = |line: &str| -> Result<Vec<u8>> {
        let digits = line.as_bytes().chunks_exact(2);
        digits.map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?)).collect()
    };
    let mut counts = BTreeMap::<String, u32>::new();
    for message in all.split("\n= ").skip(1) {
        let line = |mark: &str| message.lines().find_map(|line| line.strip_prefix(mark));
        let (Some(command), Some(answer)) = (line("> "), line("< ")) else { continue };
        let (command, answer) = (octets(command)?, octets(answer)?);
        let name = message.split(':').next().unwrap_or_default().trim_start_matches("TPM2_");
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            seed("tpm_command", name, &command)?;
        }
        let attests = ["Quote", "Certify", "CertifyCreation", "GetTime", "NV_Certify"];
        if attests.contains(&name) && answer[6..10] == [0; 4] {
            let sized = &answer[if answer[1] == 2 { 14 } else { 10 }..];
            let length = usize::from(u16::from_be_bytes([sized[0], sized[1]]));
            seed("tpm_attest", &format!("{name}-{count}"), &sized[2..2 + length])?;
        }
    }
    Ok(())
}

/// What a host that runs `tbot` sends: its TPM and its keys are simulated, EK certificates are those that were recorded.
fn teleport() -> Result<()> {
    use proto::teleport::{join_v1, legacy};
    let tpm = SoftwareTpm::generate();
    let host = TeleportHost::new(&tpm);
    let newer = |ek| {
        let init = join_v1::TpmInit { ek: Some(ek), ..host.tpm_init() };
        let payload = Some(join_v1::join_request::Payload::TpmInit(init));
        join_v1::JoinRequest { payload }.encode_to_vec()
    };
    let older = |ek| {
        let init = legacy::RegisterUsingTpmMethodInitialRequest {
            ek: Some(ek),
            ..host.legacy_init("my-bot-token")
        };
        let payload = Some(legacy::register_using_tpm_method_request::Payload::Init(init));
        legacy::RegisterUsingTpmMethodRequest { payload }.encode_to_vec()
    };
    let seeds = |name: &str, newer: &[u8], older: &[u8]| -> Result<()> {
        seed("teleport_join", name, newer)?;
        seed("teleport_legacy_join", name, older)
    };
    use join_v1::tpm_init::Ek as Newer;
    use legacy::register_using_tpm_method_initial_request::Ek as Older;
    let behind = |demand: u8, request: Vec<u8>| [&[demand][..], &request].concat();
    for (der, name) in fuzz::fixtures::EK_CERTIFICATES.into_iter().zip(["rsa2048", "p256", "p384"])
    {
        let newer = newer(Newer::EkCert(der.to_vec()));
        let older = older(Older::EkCert(der.to_vec()));
        seeds(&format!("{name}-issuer"), &behind(2, newer), &behind(2, older))?;
    }
    let newer = newer(Newer::EkKey(tpm.ek_public()));
    let older = older(Older::EkKey(tpm.ek_public()));
    seeds("key", &behind(1, newer.clone()), &behind(1, older.clone()))?;
    seeds("refused-no-certificate", &behind(0, newer), &behind(0, older))?;
    subject_keys(&host)?;
    calls(&host)?;
    answers()?;
    web_requests()?;
    join_uris()
}

/// The host's key, and keys of other algorithms, in each form.
fn subject_keys(host: &TeleportHost<'_>) -> Result<()> {
    let eks = ["rsa2048", "p256", "p384"].map(|name| {
        let spki = fs::read(home().join("seeds/ek_spki").join(name))?;
        anyhow::Ok((name, spki))
    });
    for read in eks.into_iter().chain([Ok(("host", host.spki()))]) {
        let (name, spki) = read?;
        let key = ssh_key::PublicKey::from(SubjectKey::from_spki(&spki)?.ssh()?);
        let pem = pem::encode_string("PUBLIC KEY", LineEnding::LF, &spki)?;
        let line = format!("{}\n", key.to_openssh()?);
        let forms: [(&str, &[u8], &[u8]); 3] = [
            ("spki", &spki, &[]),
            ("wire", &spki, &key.to_bytes()?),
            ("text", pem.as_bytes(), line.as_bytes()),
        ];
        for (form, (kind, tls, ssh)) in (0..).zip(forms) {
            let input = [&[form][..], &joined(&[tls, ssh])].concat();
            seed("subject_key", &format!("{name}-{kind}"), &input)?;
        }
    }
    Ok(())
}

/// What `tbot` asks besides joining.
fn calls(host: &TeleportHost<'_>) -> Result<()> {
    use proto::teleport::legacy::{GetRoleRequest, UserCertsRequest, Watch, WatchKind};
    use proto::teleport::machineid_v1::{BotInstanceStatusHeartbeat, SubmitHeartbeatRequest};
    use proto::teleport::trust_v1::{GetCertAuthoritiesRequest, GetCertAuthorityRequest};
    use proto::teleport::workloadidentity_v1::{
        IssueWorkloadIdentitiesRequest, IssueWorkloadIdentityRequest, JwtsvidParams, LabelSelector,
        X509svidParams,
    };
    let [stranger, bot, output] = [0, 1, 2];
    let call = |name: &str, method: &str, who: u8, message: Vec<u8>| {
        let is_this = |path: &&str| path.ends_with(&format!("/{method}"));
        let number = METHODS.iter().position(is_this).context("no such method")?;
        let input = [&[u8::try_from(number)?, who][..], &message].concat();
        seed("teleport_call", name, &input)
    };
    call("ping", "Ping", stranger, Vec::new())?;
    call("ping-of-bot", "Ping", bot, Vec::new())?;
    call("cas", "GetClusterCACert", stranger, Vec::new())?;
    let watch = |kind: &str| Watch { kinds: vec![WatchKind { kind: kind.into() }] }.encode_to_vec();
    call("watch", "WatchEvents", bot, watch("cert_authority"))?;
    call("refused-watch", "WatchEvents", bot, watch("role"))?;
    let role = |name: &str| GetRoleRequest { name: name.into() }.encode_to_vec();
    call("role", "GetRole", bot, role("bot-example"))?;
    call("refused-role", "GetRole", bot, role("access"))?;
    call("preference", "GetAuthPreference", bot, Vec::new())?;
    call("refused-stranger", "GetAuthPreference", stranger, Vec::new())?;
    call("clusters", "ListRemoteClusters", output, Vec::new())?;
    for r#type in ["host", "user", "db"] {
        let wish = GetCertAuthoritiesRequest { r#type: r#type.into(), include_key: false };
        call(&format!("cas-{}", wish.r#type), "GetCertAuthorities", output, wish.encode_to_vec())?;
    }
    let wish = GetCertAuthoritiesRequest { r#type: "host".into(), include_key: true };
    call("refused-private-keys", "GetCertAuthorities", output, wish.encode_to_vec())?;
    let wish = GetCertAuthorityRequest { r#type: "host".into(), domain: "example.test".into() };
    call("ca-host", "GetCertAuthority", output, wish.encode_to_vec())?;
    let heartbeat = Some(BotInstanceStatusHeartbeat {
        version: "18.0.0".into(),
        hostname: "host.example".into(),
        join_method: "tpm".into(),
        architecture: "amd64".into(),
        os: "linux".into(),
    });
    let heartbeat = SubmitHeartbeatRequest { heartbeat };
    call("heartbeat", "SubmitHeartbeat", bot, heartbeat.encode_to_vec())?;
    call("refused-heartbeat", "SubmitHeartbeat", bot, Vec::new())?;

    let keys = host.legacy_init("my-bot-token").join_request.context("a request")?;
    let end = fuzz::fixtures::now().seconds() + 600;
    let certs = |roles: &[&str]| UserCertsRequest {
        username: "bot-example".into(),
        expires: Some(proto::teleport::Timestamp { seconds: end, nanos: 0 }),
        route_to_cluster: "example.test".into(),
        role_requests: roles.iter().map(ToString::to_string).collect(),
        use_role_requests: true,
        ssh_public_key: keys.public_ssh_key.clone(),
        tls_public_key: keys.public_tls_key.clone(),
        reissuable_role_impersonation: false,
    };
    call("federations", "ListSPIFFEFederations", bot, Vec::new())?;
    let key = || X509svidParams { public_key: fuzz::fixtures::service_key().spki_der() };
    let audiences =
        |all: &[&str]| JwtsvidParams { audiences: all.iter().map(ToString::to_string).collect() };
    let one = |name: &str, x509_svid_params, jwt_svid_params| {
        let (name, requested_ttl) = (name.to_owned(), None);
        IssueWorkloadIdentityRequest { name, x509_svid_params, jwt_svid_params, requested_ttl }
            .encode_to_vec()
    };
    call("svid", "IssueWorkloadIdentity", bot, one("web", Some(key()), None))?;
    call("jwt-svid", "IssueWorkloadIdentity", output, one("web", None, Some(audiences(&["a"]))))?;
    call("refused-svid", "IssueWorkloadIdentity", bot, one("db", Some(key()), None))?;
    let label = LabelSelector { key: "env".into(), values: vec!["prod".into(), "test".into()] };
    let all = IssueWorkloadIdentitiesRequest {
        label_selectors: vec![label],
        x509_svid_params: Some(key()),
        jwt_svid_params: None,
        requested_ttl: Some(proto::teleport::Duration { seconds: 60, nanos: 0 }),
    };
    call("svids", "IssueWorkloadIdentities", output, all.encode_to_vec())?;
    let all = IssueWorkloadIdentitiesRequest {
        x509_svid_params: None,
        jwt_svid_params: Some(audiences(&["a", "b"])),
        ..all
    };
    call("jwt-svids", "IssueWorkloadIdentities", bot, all.encode_to_vec())?;

    call("certs", "GenerateUserCerts", bot, certs(&["access", "dev"]).encode_to_vec())?;
    call("certs-of-one-role", "GenerateUserCerts", bot, certs(&["dev"]).encode_to_vec())?;
    call("refused-role-request", "GenerateUserCerts", bot, certs(&["admin"]).encode_to_vec())?;
    call("refused-output", "GenerateUserCerts", output, certs(&["dev"]).encode_to_vec())
}

/// Challenges for the join key, the CAs of the cluster that issued `join_result`, and refusals of Teleport.
fn answers() -> Result<()> {
    for kind in ["rsa2048", "p256"] {
        let ek = fs::read(home().join("seeds/tpm_public").join(format!("ek-{kind}")))?;
        let name = object_name(&Public::from_bytes(fuzz::fixtures::JOIN_KEY)?)?;
        let made = make_credential(&Public::from_bytes(&ek)?, &name, &[7; 32])?;
        let sized = |part: &[u8]| -> Result<Vec<u8>> {
            Ok([&u16::try_from(part.len())?.to_be_bytes(), part].concat())
        };
        let (blob, secret) = (sized(made.blob().octets())?, sized(made.secret().octets())?);
        let credential = join_v1::TpmEncryptedCredential {
            credential_blob: blob.clone(),
            secret: secret.clone(),
        };
        let payload = Some(join_v1::challenge::Payload::TpmEncryptedCredential(credential));
        let challenge = join_v1::join_response::Payload::Challenge(join_v1::Challenge { payload });
        let newer = join_v1::JoinResponse { payload: Some(challenge) }.encode_to_vec();
        let credential = legacy::TpmEncryptedCredential { credential_blob: blob, secret };
        let challenge =
            legacy::register_using_tpm_method_response::Payload::ChallengeRequest(credential);
        let older = legacy::RegisterUsingTpmMethodResponse { payload: Some(challenge) };
        seed("teleport_answer", &format!("challenge-{kind}"), &[&[0], &newer[..]].concat())?;
        let older = older.encode_to_vec();
        seed("teleport_answer", &format!("older-challenge-{kind}"), &[&[1], &older[..]].concat())?;
    }
    let init = join_v1::ServerInit {
        join_method: "tpm".into(),
        signature_algorithm_suite: "balanced-v1".into(),
    };
    let init = Some(join_v1::join_response::Payload::Init(init));
    let init = join_v1::JoinResponse { payload: init }.encode_to_vec();
    seed("teleport_answer", "refused-init", &[&[0], &init[..]].concat())?;

    let issued = fs::read(home().join("seeds/teleport_result/older"))?;
    let issued = legacy::Certs::decode(issued.get(1..).context("a message")?)?;
    let one = legacy::GetClusterCaCertResponse { tls_ca: issued.tls_ca_certs.concat() };
    seed("teleport_answer", "cas", &[&[2], &one.encode_to_vec()[..]].concat())?;
    let two = [&issued.tls_ca_certs.concat()[..], &fs::read(home().join("fixtures/ek-root.pem"))?];
    let two = legacy::GetClusterCaCertResponse { tls_ca: two.concat() };
    seed("teleport_answer", "refused-unknown-ca", &[&[2], &two.encode_to_vec()[..]].concat())?;

    for (name, code, text) in [
        ("no-enterprise", 7, "this feature requires Teleport Enterprise"),
        ("no-rule", 7, "validated tpm attributes did not match any allow rules"),
        ("no-token", 7, "token expired or not found"),
        ("no-legacy", 7, "legacy join service has been disabled in this environment"),
        ("no-service", 12, "unknown service proto.JoinService"),
        ("late", 8, "tpm join method timed out after 1m0s, terminating the stream on the server"),
        ("no-reason", 14, ""),
    ] {
        seed("teleport_answer", name, &[&[3, code], text.as_bytes()].concat())?;
    }
    Ok(())
}

/// What Go's HTTP client sends for `tbot`, and others.
fn web_requests() -> Result<()> {
    for (name, line, more) in [
        ("find", "GET /webapi/find HTTP/1.1", "Accept-Encoding: gzip\r\n"),
        ("find-v1", "GET /v1/webapi/find?group=default HTTP/1.1", ""),
        ("ping", "GET /webapi/ping HTTP/1.1", "Connection: close\r\n"),
        ("head", "HEAD /webapi/find HTTP/1.1", ""),
        ("whole", "GET https://teleport.example/webapi/find HTTP/1.1", ""),
        (
            "refused-upgrade",
            "GET /webapi/connectionupgrade HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        ),
        (
            "refused-post",
            "POST /v1/webapi/host/credentials HTTP/1.1",
            "Content-Type: application/json\r\nContent-Length: 2\r\n",
        ),
    ] {
        let head = "Host: teleport.example\r\nUser-Agent: Go-http-client/1.1\r\n";
        let body = if name == "refused-post" { "{}" } else { "" };
        seed("web_request", name, format!("{line}\r\n{head}{more}\r\n{body}").as_bytes())?;
    }
    Ok(())
}

fn join_uris() -> Result<()> {
    for (name, text) in [
        ("proxy", "tbot+proxy+tpm://my-bot-token@teleport.example:443"),
        ("auth", "tbot+auth+tpm://my-bot-token@192.0.2.1:3025/"),
        ("file", "tbot+auth+tpm://%2Fetc%2Ftoken@[::1]:3025"),
        ("refused-method", "tbot+proxy+bound-keypair://my-bot:secret@teleport.example:443"),
        ("refused-port", "tbot+proxy+tpm://my-bot-token@teleport.example"),
    ] {
        seed("join_uri", name, text.as_bytes())?;
    }
    Ok(())
}
