//! Joins are granted and refused alike, whichever of the three protocols the host speaks.

use std::time::Duration;

use authority::resource::Kind;
use proto::transcript::Transcript;
use proto::v1::{JoinAnswer, JoinChallenge};
use testkit::forge::Ca;
use testkit::simulated::teleport::{Talk, legacy_solution, solution};
use testkit::simulated::{Join, SoftwareTpm, TeleportHost, Wire};
use tonic::{Code, Status};

use super::harness::{BOT, Harness, author, token};

/// How a host joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Endorse,
    Teleport,
    Legacy,
}

type TeleportTalk =
    Talk<proto::teleport::join_v1::JoinRequest, proto::teleport::join_v1::JoinResponse>;

type LegacyTalk = Talk<
    proto::teleport::legacy::RegisterUsingTpmMethodRequest,
    proto::teleport::legacy::RegisterUsingTpmMethodResponse,
>;

/// A join that waits for its answer.
pub(crate) enum Challenged<'t> {
    Endorse(&'t SoftwareTpm, [u8; 32], Join, Vec<u8>, JoinChallenge),
    Teleport(TeleportHost<'t>, TeleportTalk, Vec<u8>, Vec<u8>),
    Legacy(TeleportHost<'t>, LegacyTalk, Vec<u8>, Vec<u8>),
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Endorse, Self::Teleport, Self::Legacy];

    /// A join up to its challenge.
    pub(crate) async fn challenged<'t>(
        self,
        wire: &Wire,
        tpm: &'t SoftwareTpm,
        token: &str,
    ) -> Result<Challenged<'t>, Status> {
        use proto::teleport::join_v1::join_request::Payload as Teleport;
        use proto::teleport::legacy::register_using_tpm_method_request::Payload as Legacy;
        use proto::v1::join_response::Step;
        match self {
            Self::Endorse => {
                let mut join = wire.join().await;
                let init = join.init(&tpm.init(token)).await;
                let Step::Challenge(challenge) = join.reply().await? else { panic!("a result") };
                Ok(Challenged::Endorse(tpm, wire.exporter, join, init, challenge))
            }
            Self::Teleport => {
                let (host, mut talk) = (TeleportHost::new(tpm), wire.teleport_join().await?);
                talk.send(Teleport::ClientInit(TeleportHost::client_init(token))).await;
                talk.reply().await?;
                talk.send(Teleport::TpmInit(host.tpm_init())).await;
                let (blob, secret) = talk.challenge().await?;
                Ok(Challenged::Teleport(host, talk, blob, secret))
            }
            Self::Legacy => {
                let (host, mut talk) = (TeleportHost::new(tpm), wire.legacy_join().await?);
                talk.send(Legacy::Init(host.legacy_init(token))).await;
                let (blob, secret) = talk.challenge().await?;
                Ok(Challenged::Legacy(host, talk, blob, secret))
            }
        }
    }

    /// An honest join.
    pub(crate) async fn join(
        self,
        wire: &Wire,
        tpm: &SoftwareTpm,
        token: &str,
    ) -> Result<(), Status> {
        self.challenged(wire, tpm, token).await?.answer(|_| {}).await
    }
}

impl Challenged<'_> {
    /// Answers with the activated secret as it is changed here.
    pub(crate) async fn answer(self, change: fn(&mut Vec<u8>)) -> Result<(), Status> {
        match self {
            Self::Endorse(tpm, exporter, mut join, init, challenge) => {
                let mut secret = tpm.activate(&challenge, &tpm.join_key_public()).unwrap();
                change(&mut secret);
                let JoinChallenge { credential_blob, encrypted_seed } = &challenge;
                let transcript = Transcript::new(&exporter, &init, credential_blob, encrypted_seed);
                let (mac, signature) = (transcript.mac(&secret).to_vec(), tpm.sign(&transcript));
                join.answer(JoinAnswer { mac, signature }).await;
                join.reply().await.map(|_| ())
            }
            Self::Teleport(host, mut talk, blob, secret) => {
                let mut secret = host.solve(&blob, &secret);
                change(&mut secret);
                talk.send(solution(secret)).await;
                talk.reply().await.map(|_| ())
            }
            Self::Legacy(host, mut talk, blob, secret) => {
                let mut secret = host.solve(&blob, &secret);
                change(&mut secret);
                talk.send(legacy_solution(secret)).await;
                talk.reply().await.map(|_| ())
            }
        }
    }
}

/// A refusal: its code, and the message for clients.
struct Refused {
    token: &'static str,
    code: &'static str,
    text: &'static str,
    /// What the older protocol of Teleport says, if that differs.
    legacy_text: Option<&'static str>,
    /// The status of Teleport's protocols.
    teleport: Code,
}

const NOT_FOUND: &str = "token expired or not found";
const NOT_ALLOWED: &str = "validated tpm attributes did not match any allow rules";
const LEGACY_NOT_FOUND: &str =
    "\"\" can not join the cluster with role \"Bot\", token expired or not found";

const fn refused(token: &'static str, code: &'static str, text: &'static str) -> Refused {
    Refused { token, code, text, legacy_text: None, teleport: Code::PermissionDenied }
}

#[tokio::test]
async fn each_refusal_has_its_code_and_words_in_every_protocol() {
    for protocol in Protocol::ALL {
        refuse_and_grant_by(protocol).await;
    }
}

async fn refuse_and_grant_by(protocol: Protocol) {
    let harness = Harness::new().await;
    let [ours, other] = ["TPM CA", "Other TPM CA"].map(Ca::new);
    let namesake = ours.impostor("namesake");
    let (mut tpm, bare) = (SoftwareTpm::generate(), SoftwareTpm::generate());
    tpm.certify(&ours, &[0x5e, 0xcd]);
    let [hash, bare_hash] = [&tpm, &bare].map(|tpm| format!("ek_public_hash: {}", tpm.ek_hash()));
    let [good, bare_hash] = [hash, bare_hash].map(|rule| format!("- {rule}"));
    let by_serial = "- ek_certificate_serial: \"5e:cd\"";
    let root = ours.root().pem();
    let cas: &[&str] = &[&root];

    let dated = |yaml: String, name: &str| {
        yaml.replace(
            &format!("name: {name}\n"),
            &format!("name: {name}\n  expires: 2020-01-01T00:00:00Z\n"),
        )
    };
    harness.create(&dated(token("expired", &good, &[]), "expired")).await;
    let node = token("node", &good, &[]).replace("[Bot]", "[Node]");
    harness.create(&node.replace("  bot_name: my-bot\n", "")).await;
    harness.create(&token("gone", &good, &[]).replace("my-bot", "gone-bot")).await;
    let stranger = format!("- ek_public_hash: {}", "ab".repeat(32));
    harness.token("hash", &stranger, &[]).await;
    harness.token("serial", "- ek_certificate_serial: \"01:02\"", cas).await;
    harness.token("both", &format!("{good}\n  ek_certificate_serial: \"01:02\""), cas).await;
    let issuer = format!("{by_serial}\n  ek_certificate_issuer: CN=Other TPM CA");
    harness.token("issuer", &issuer, &[&root, &other.root().pem()]).await;
    harness.token("namesake", &good, &[&namesake.root().pem()]).await;
    harness.token("bare", &bare_hash, cas).await;
    harness.token("locked", &good, cas).await;
    harness
        .create(
            "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {join_token: locked}}\n",
        )
        .await;

    let matrix = [
        Refused {
            legacy_text: Some(LEGACY_NOT_FOUND),
            ..refused("absent", "token_unknown", NOT_FOUND)
        },
        Refused {
            legacy_text: Some(LEGACY_NOT_FOUND),
            ..refused("expired", "token_expired", NOT_FOUND)
        },
        Refused {
            legacy_text: Some(
                "node \"\" [] can not join the cluster, the token does not allow \"Bot\" role",
            ),
            teleport: Code::InvalidArgument,
            ..refused(
                "node",
                "token_role",
                "can not join the cluster, the token does not allow role Bot",
            )
        },
        refused("gone", "bot_unknown", "access denied"),
        refused("hash", "ek_not_allowed", NOT_ALLOWED),
        refused("serial", "ek_not_allowed", NOT_ALLOWED),
        refused("both", "ek_not_allowed", NOT_ALLOWED),
        refused("issuer", "ek_not_allowed", NOT_ALLOWED),
        refused(
            "namesake",
            "ek_untrusted",
            "validating TPM: the EKCert is not signed by an allowed CA",
        ),
        refused(
            "bare",
            "ek_certificate_missing",
            "validating TPM: tpm did not provide an EKCert to validate against allowed CAs",
        ),
        refused("locked", "locked", "access denied: a lock is in force"),
    ];
    for (lines, case) in matrix.iter().enumerate() {
        let (name, code) = (case.token, case.code);
        let tpm = if name == "bare" { &bare } else { &tpm };
        let status = protocol.join(&harness.wire().await, tpm, name).await.unwrap_err();
        let line = harness.assert_refused_after(lines, code).await;
        assert_eq!(line["token_name"], name);
        let (grpc, text) = match protocol {
            Protocol::Endorse => (Code::PermissionDenied, case.text),
            Protocol::Teleport => (case.teleport, case.text),
            Protocol::Legacy => (case.teleport, case.legacy_text.unwrap_or(case.text)),
        };
        assert_eq!((status.code(), status.message()), (grpc, text), "{protocol:?} {name}");
    }
    // None of these TPMs is refused for everything.
    harness.token("by_hash", &bare_hash, &[]).await;
    harness.token("by_serial", by_serial, cas).await;
    harness.token("by_both", &format!("{good}\n  ek_certificate_serial: \"5e:cd\""), cas).await;
    let issuer = format!("{by_serial}\n  ek_certificate_issuer: CN=TPM CA");
    harness.token("by_issuer", &issuer, cas).await;
    for name in ["by_hash", "by_serial", "by_both", "by_issuer"] {
        let tpm = if name == "by_hash" { &bare } else { &tpm };
        let joined = protocol.join(&harness.wire().await, tpm, name).await;
        joined.unwrap_or_else(|status| panic!("{protocol:?} {name}: {status}"));
        let line = harness.assert_last("bot.join", None);
        assert_eq!(line["token_name"], name);
        assert_eq!(line["ek_cert_verified"], name != "by_hash");
    }
}

#[tokio::test]
async fn answer_of_another_secret_is_refused_in_every_protocol() {
    let lies: [fn(&mut Vec<u8>); 4] = [
        |secret| secret[0] ^= 1,
        |secret| secret.truncate(31),
        |secret| secret.push(7),
        Vec::clear,
    ];
    for protocol in Protocol::ALL {
        let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
        harness.allow(&tpm).await;
        for (lines, lie) in lies.into_iter().enumerate() {
            let wire = harness.wire().await;
            let challenged = protocol.challenged(&wire, &tpm, "t").await.unwrap();
            let status = challenged.answer(lie).await.unwrap_err();
            let line = harness.assert_refused_after(lines, "answer_wrong").await;
            assert_eq!(line["ek_proven"], false);
            let text = "validating TPM: invalid credential activation solution";
            assert_eq!((status.code(), status.message()), (Code::PermissionDenied, text));
        }
    }
}

#[tokio::test]
async fn what_changes_while_the_host_answers_counts_in_every_protocol() {
    for protocol in Protocol::ALL {
        let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
        let refused_after = async |code: &str, lines: usize, change: &str| {
            harness.allow(&tpm).await;
            harness.create(BOT).await;
            let wire = harness.wire().await;
            let challenged = protocol.challenged(&wire, &tpm, "t").await.unwrap();
            match change {
                "rules" => {
                    let rule = format!("- ek_public_hash: {}", "ab".repeat(32));
                    harness.token("t", &rule, &[]).await;
                }
                "token" => {
                    let removed = harness.authority.records.remove(Kind::Token, "t", author());
                    removed.await.unwrap();
                }
                "token replaced" => {
                    let removed = harness.authority.records.remove(Kind::Token, "t", author());
                    removed.await.unwrap();
                    harness.allow(&tpm).await;
                }
                "bot" => {
                    let removed = harness.authority.records.remove(Kind::Bot, "my-bot", author());
                    removed.await.unwrap();
                }
                _ => {
                    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: bot-my-bot}}\n";
                    harness.create(lock).await;
                }
            }
            challenged.answer(|_| {}).await.unwrap_err();
            let line = harness.assert_refused_after(lines, code).await;
            assert_eq!(line["ek_proven"], true, "{protocol:?} {change}");
        };
        refused_after("ek_not_allowed", 0, "rules").await;
        refused_after("token_unknown", 1, "token").await;
        refused_after("token_unknown", 2, "token replaced").await;
        refused_after("bot_unknown", 3, "bot").await;
        refused_after("locked", 4, "lock").await;
    }
}

#[tokio::test]
async fn silent_host_is_refused_when_its_time_is_over_in_every_protocol() {
    for (protocol, grpc, text) in [
        (Protocol::Endorse, Code::DeadlineExceeded, "join attempt timed out or was aborted"),
        (
            Protocol::Teleport,
            Code::ResourceExhausted,
            "join attempt timed out after 1s, terminating the stream on the server",
        ),
        (
            Protocol::Legacy,
            Code::ResourceExhausted,
            "tpm join method timed out after 1s, terminating the stream on the server",
        ),
    ] {
        let harness = Harness::with_timeout(Duration::from_secs(1)).await;
        let tpm = SoftwareTpm::generate();
        harness.allow(&tpm).await;
        let wire = harness.wire().await;
        let status = match protocol.challenged(&wire, &tpm, "t").await.unwrap() {
            Challenged::Endorse(_, _, mut join, ..) => join.reply().await.unwrap_err(),
            Challenged::Teleport(_, mut talk, ..) => talk.reply().await.unwrap_err(),
            Challenged::Legacy(_, mut talk, ..) => talk.reply().await.unwrap_err(),
        };
        assert_eq!((status.code(), status.message()), (grpc, text));
        harness.assert_refused("answer_late").await;
    }
}

#[tokio::test]
async fn host_that_goes_away_is_recorded_in_every_protocol() {
    for protocol in Protocol::ALL {
        let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
        harness.allow(&tpm).await;
        let wire = harness.wire().await;
        drop(protocol.challenged(&wire, &tpm, "t").await.unwrap());
        harness.assert_refused("abandoned").await;
    }
}
