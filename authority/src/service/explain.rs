//! Why a join was granted or refused: its evidence is appraised again, as it was then and as it would be now.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tpm2::types::NameBuf;
use verifier::chain::{ChainPolicy, DatePolicy, PurposePolicy, Sha1Policy};
use verifier::{
    Appraisal, AppraisalError, AppraisedKey, CaCertificate, EkCertificate, EkPublicKey,
    KnownSignatures,
};

use super::Authority;
use super::admin::{Admin, AdminError};
use super::allowance::Allowance;
use super::evidence::{Answered, Format};
use super::join::{Ek, Evidence, appraise, proven_ek};
use super::refusal::{Code, Refusal};
use super::token_cache::OpenToken;
use crate::evidence::{Answer, End, JoinEvidence, Policy};
use crate::resource::{BotInstance, JoinId, ProvenEk, Rule, Timestamp};
use crate::store::KeptEvidence;

/// Why a join ended as it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which join.
    pub join_id: JoinId,
    /// When it was decided.
    pub time: Timestamp,
    /// The ID of the authority that decided.
    pub authority: String,
    /// The version of its program.
    pub version: String,
    /// Where the connection came from.
    pub remote: String,
    /// `endorse.v1` or `teleport`.
    pub protocol: String,
    /// The token that the host named.
    pub token: String,
    /// The token's bot.
    pub bot: String,
    /// SHA-256 of the EK, as far as it was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ek_pub_hash: Option<String>,
    /// SHA-256 of the evidence; a grant's entry of the log has it.
    pub evidence_sha256: String,
    /// How it ended.
    pub end: End,
    /// What was checked, in this order.
    pub checks: Vec<Check>,
    /// Whether the evidence leads to the recorded end once more, as far as it can be shown.
    pub is_consistent: bool,
    /// What the evidence does not show.
    pub limits: Vec<String>,
    /// The same evidence by the records of today.
    pub today: Today,
}

/// A check of a join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub check: String,
    /// How it ends when it is repeated.
    pub result: Verdict,
    /// With which content.
    pub details: String,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passed then, and passes again.
    Passed,
    /// It failed then, and fails again; or only one of the two.
    Failed,
    /// The record says how it ended; it cannot be repeated.
    Recorded,
    /// The join ended before.
    NotReached,
}

/// What would be decided now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Today {
    /// Whether a join with this evidence would be granted.
    pub granted: bool,
    /// The code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What has changed since, and why it would be refused.
    pub remarks: Vec<String>,
}

const EK: &str = "endorsement key";
const CA: &str = "CA of the EK certificate";
const KEY: &str = "key to prove";
const CHALLENGE: &str = "challenge";
const ANSWER: &str = "answer";
const SIGNATURE: &str = "signature";
const LOCKS: &str = "locks";
const RULE: &str = "rule of the token";

/// In this order.
const CHECKS: [&str; 8] = [EK, CA, KEY, CHALLENGE, ANSWER, SIGNATURE, LOCKS, RULE];

impl Admin {
    /// Explains a join.
    pub(crate) async fn explain(
        &self,
        id: &str,
        formats: &[&'static Format],
    ) -> Result<Explanation, AdminError> {
        let id: JoinId = id
            .parse()
            .map_err(|cause: crate::resource::Invalid| AdminError::InvalidArgument(cause.0))?;
        self.0.store_refused_evidence().await;
        let found = self.0.records.evidence(id).await?.ok_or_else(|| {
            AdminError::InvalidArgument(format!(
                "no evidence of a join {id} is kept: it never reached the appraisal, or its instance was removed long ago"
            ))
        })?;
        let format = formats.iter().find(|one| one.protocol == found.evidence.protocol);
        let unknown = || AdminError::Internal("the protocol of the join is unknown".to_owned());
        Ok(self.0.explained(found, format.ok_or_else(unknown)?).await)
    }
}

impl Authority {
    async fn explained(&self, found: KeptEvidence, format: &'static Format) -> Explanation {
        let now = self.clock.now();
        let KeptEvidence { evidence, sha256, claim, ca } = found;
        let token = self.open_token(evidence.token.as_str(), now).await;
        let again = Again { evidence: &evidence, claim: claim.as_deref(), ca, format };
        let (checks, is_consistent) = again.checks(token.as_deref().ok());
        let today = self.today(&again, token.as_deref(), now).await;
        let protocol = serde_json::to_value(evidence.protocol).unwrap_or_default();
        Explanation {
            join_id: evidence.join_id,
            time: evidence.time,
            authority: evidence.authority.clone(),
            version: evidence.version.clone(),
            remote: evidence.remote.clone(),
            protocol: protocol.as_str().unwrap_or_default().to_owned(),
            token: evidence.token.to_string(),
            bot: evidence.bot.to_string(),
            ek_pub_hash: evidence.ek.as_ref().map(ToString::to_string),
            evidence_sha256: sha256,
            end: evidence.end.clone(),
            checks,
            is_consistent,
            limits: limits(&evidence),
            today,
        }
    }

    /// The same evidence by the records of today.
    async fn today(
        &self,
        again: &Again<'_>,
        token: Result<&OpenToken, &Refusal>,
        now: OffsetDateTime,
    ) -> Today {
        let mut remarks = Vec::new();
        let evidence = again.evidence;
        if let End::Granted { instance, .. } = &evidence.end {
            remarks.push(self.instance_today(instance, now).await);
        }
        if let Ok(token) = token {
            let is_same = evidence.token_sha256.as_deref() == Some(token.sha256.as_str());
            let since =
                if is_same { "has not changed since" } else { "was changed or replaced since" };
            remarks.push(format!("the token {} {since}", token.name));
        }
        let decided = match token {
            Ok(token) => self.decide_again(again, token, now).await,
            Err(refusal) => Err(refusal.clone()),
        };
        match decided {
            Ok(rule) => {
                remarks.push(format!("the rule {rule} allows it"));
                Today { granted: true, refusal: None, remarks }
            }
            Err(refusal) => {
                remarks.push(refusal.reason.clone());
                Today { granted: false, refusal: Some(refusal.code.as_str().to_owned()), remarks }
            }
        }
    }

    async fn instance_today(&self, path: &str, now: OffsetDateTime) -> String {
        let id = path.split_once('/').and_then(|(_, id)| id.parse().ok());
        let found = match &id {
            Some(id) => self.records.instance_by_id(id).await.ok().flatten(),
            None => None,
        };
        match found {
            None => format!("the instance {path} is not there any more"),
            Some(instance) if instance.metadata.expired(now) => {
                format!("the certificates of the instance {path} have expired")
            }
            Some(instance) => {
                format!("the instance {path} is at generation {}", instance.status.generation)
            }
        }
    }

    async fn decide_again(
        &self,
        again: &Again<'_>,
        token: &OpenToken,
        now: OffsetDateTime,
    ) -> Result<String, Refusal> {
        let claim = again.read().map_err(|cause| Refusal::new(Code::Malformed, cause))?;
        let policy = ChainPolicy { purpose: token.without_purpose, ..self.ek_policy };
        let appraisal = appraised(&claim, &token.anchors, policy, now)?
            .map_err(|error| Refusal::new(Code::Evidence(error.code()), error.explain()))?;
        let ek = proven_ek(appraisal.ek())?;
        let (bot, name) = (token.bot.clone(), token.name.clone());
        let instance = BotInstance::joining(bot, name, ek.clone(), String::new(), now);
        self.check_bot_and_locks(&instance, now).await?;
        let token = self.check_token(&instance, now).await?;
        Ok(token.rule(&ek).map(rule_text).unwrap_or_default())
    }
}

fn appraised(
    evidence: &Evidence,
    anchors: &[CaCertificate],
    policy: ChainPolicy,
    at: OffsetDateTime,
) -> Result<Result<Appraisal, Box<AppraisalError>>, Refusal> {
    let known = KnownSignatures::default();
    Allowance::unlimited().compute(|effort| appraise(evidence, anchors, policy, at, &known, effort))
}

/// Evidence that is appraised again.
struct Again<'a> {
    evidence: &'a JoinEvidence,
    claim: Result<&'a [u8], &'a String>,
    ca: Option<Vec<u8>>,
    format: &'static Format,
}

/// The results of the checks so far.
#[derive(Default)]
struct Results(Vec<Check>);

impl Results {
    fn add(&mut self, check: &str, result: Verdict, details: impl Into<String>) {
        self.0.push(Check { check: check.to_owned(), result, details: details.into() });
    }

    fn result(&mut self, check: &str, result: Result<String, String>) -> bool {
        let is_passed = result.is_ok();
        let verdict = if is_passed { Verdict::Passed } else { Verdict::Failed };
        self.add(check, verdict, result.unwrap_or_else(|details| details));
        is_passed
    }
}

impl Again<'_> {
    fn read(&self) -> Result<Evidence, String> {
        let claim = self.claim.map_err(Clone::clone)?;
        (self.format.read)(claim).ok_or_else(|| "the claim is malformed".to_owned())
    }

    /// All checks, and whether they lead to the recorded end.
    fn checks(&self, token: Option<&OpenToken>) -> (Vec<Check>, bool) {
        let mut results = Results::default();
        let failed_then = match &self.evidence.end {
            End::Granted { .. } => None,
            End::Refused { refusal, .. } => Some(failed_check(refusal)),
        };
        match self.read() {
            Ok(claim) => self.repeat(&claim, token, &mut results),
            Err(cause) => {
                for check in &CHECKS[..6] {
                    results.add(check, Verdict::Recorded, cause.clone());
                }
            }
        }
        self.decision(failed_then, &mut results);
        let reached = failed_then.and_then(|failed| CHECKS.iter().position(|one| *one == failed));
        let mut is_consistent = true;
        for check in &mut results.0 {
            let position = CHECKS.iter().position(|one| *one == check.check);
            if failed_then == Some(check.check.as_str()) {
                is_consistent &= check.result != Verdict::Passed;
                if check.result == Verdict::Passed
                    && let End::Refused { reason, .. } = &self.evidence.end
                {
                    check.details =
                        format!("it failed then ({reason}), and passes now: {}", check.details);
                }
            } else if position > reached && reached.is_some() {
                check.result = Verdict::NotReached;
                check.details.clear();
            } else {
                is_consistent &= check.result != Verdict::Failed;
            }
        }
        (results.0, is_consistent)
    }

    /// The checks that need only the evidence.
    fn repeat(&self, claim: &Evidence, token: Option<&OpenToken>, results: &mut Results) {
        let (anchors, whose) = self.anchors(token);
        let demanded = self.evidence.certificate_demanded;
        let policy = chain_policy(self.evidence.policy);
        if demanded && anchors.is_empty() {
            results.result(EK, ek_text(claim));
            let details = "the CA certificates that the token had are no longer known";
            results.add(CA, Verdict::Recorded, details);
            // The rest does not depend on the CA.
        }
        let at = self.evidence.time.0;
        let appraisal = match appraised(claim, &anchors, policy, at) {
            Ok(Ok(appraisal)) => Ok(appraisal),
            Ok(Err(error)) => Err((error.code(), error.explain(), error.ek().is_some())),
            Err(refusal) => Err((refusal.code.as_str(), refusal.reason, false)),
        };
        if !(demanded && anchors.is_empty()) {
            self.endorsement(claim, &appraisal, (&anchors, whose), results);
        }
        match appraisal {
            Ok(appraisal) => self.proof(&appraisal, results),
            Err((code, why, _)) => {
                let is_key = failed_check(code) == KEY;
                let verdict = if is_key { Verdict::Failed } else { Verdict::NotReached };
                results.add(KEY, verdict, if is_key { why } else { String::new() });
                for check in [CHALLENGE, ANSWER, SIGNATURE] {
                    results.add(check, Verdict::NotReached, "");
                }
            }
        }
    }

    /// The CAs by which the EK certificate is verified again, and whose they are.
    fn anchors(&self, token: Option<&OpenToken>) -> (Vec<CaCertificate>, &'static str) {
        if !self.evidence.certificate_demanded {
            return (Vec::new(), "");
        }
        let by = self.evidence.verified_by.as_deref();
        let kept = self.ca.as_deref().or_else(|| token.and_then(|token| token.ca(by?)));
        if let Some(Ok(ca)) = kept.map(CaCertificate::parse) {
            return (vec![ca], "the CA of the token that verified it then");
        }
        let same = |token: &&OpenToken| {
            self.evidence.token_sha256.as_deref() == Some(token.sha256.as_str())
        };
        match token {
            Some(token) if same(&token) => (token.anchors.clone(), "the CAs of the token"),
            Some(token) => (token.anchors.clone(), "the CAs that the token has today"),
            None => (Vec::new(), ""),
        }
    }

    fn endorsement(
        &self,
        claim: &Evidence,
        appraisal: &Result<Appraisal, (&'static str, String, bool)>,
        (anchors, whose): (&[CaCertificate], &str),
        results: &mut Results,
    ) {
        let has_facts = match appraisal {
            Ok(_) => true,
            Err((_, _, has_facts)) => *has_facts,
        };
        if !has_facts
            && let Err((code, why, _)) = appraisal
            && failed_check(code) == EK
        {
            results.add(EK, Verdict::Failed, why.clone());
            return results.add(CA, Verdict::NotReached, "");
        }
        results.result(EK, ek_text(claim));
        if !self.evidence.certificate_demanded {
            let details = "the token demands no certificate: its rules name the key itself";
            return results.add(CA, Verdict::Passed, details);
        }
        match appraisal {
            Err((code, why, _)) if failed_check(code) != KEY => {
                results.add(CA, Verdict::Failed, format!("{why}; verified again with {whose}"));
            }
            _ => {
                let by = self.evidence.verified_by.as_deref();
                let ca = anchors.iter().find(|ca| by.is_none_or(|by| ca.fingerprint() == by));
                let ca = ca.map(ca_text).unwrap_or_default();
                results.add(CA, Verdict::Passed, format!("{ca}; verified again with {whose}"));
            }
        }
    }

    fn proof(&self, appraisal: &Appraisal, results: &mut Results) {
        results.add(KEY, Verdict::Passed, key_text(appraisal.key()));
        let origin =
            self.evidence.challenge.as_ref().and_then(|origin| origin.0.as_slice().try_into().ok());
        let challenge = origin.map(|origin| appraisal.challenge_again(origin));
        let challenge = match challenge {
            Some(Ok(challenge)) => challenge,
            Some(Err(cause)) => return self.unproven(CHALLENGE, &cause.to_string(), results),
            None => return self.unproven(CHALLENGE, "no challenge was made", results),
        };
        let details = "made again from its recorded origin: a credential for this EK and the Name of this key";
        results.add(CHALLENGE, Verdict::Passed, details);
        let (Some(answer), Ok(claim)) = (&self.evidence.answer, self.claim) else {
            return self.unproven(ANSWER, "the host did not answer", results);
        };
        let exporter = self.evidence.exporter.as_ref().map(|bytes| bytes.0.as_slice());
        let exporter = exporter.unwrap_or_default();
        let answered = Answered { claim, exporter, challenge: &challenge, answer };
        match (self.format.check)(&answered) {
            Err(why) => self.unproven(ANSWER, why, results),
            Ok(None) => {
                results.add(ANSWER, Verdict::Passed, "the secret of the credential came back");
                let details = "the protocol has none: the certified key is one in software";
                results.add(SIGNATURE, Verdict::Passed, details);
            }
            Ok(Some(message)) => {
                let details = "its MAC was computed with the credential's secret, over this claim and this connection";
                results.add(ANSWER, Verdict::Passed, details);
                results.result(SIGNATURE, self.signature(appraisal, &message));
            }
        }
    }

    fn signature(&self, appraisal: &Appraisal, message: &[u8]) -> Result<String, String> {
        match (appraisal.key(), &self.evidence.answer) {
            (AppraisedKey::JoinKey(key), Some(Answer::Mac { signature, .. })) => key
                .verify(message, &signature.0)
                .map(|()| "the join key has signed this join".to_owned())
                .map_err(|_| "the join key has not signed this join".to_owned()),
            _ => Err("there is no signature of a join key".to_owned()),
        }
    }

    /// The proof ends at this check.
    fn unproven(&self, at: &str, why: &str, results: &mut Results) {
        let is_recorded = matches!(self.evidence.end, End::Refused { .. }) && at == ANSWER;
        let reason = match &self.evidence.end {
            End::Refused { reason, .. } if is_recorded && self.evidence.answer.is_none() => reason,
            _ => why,
        };
        results.add(at, Verdict::Failed, reason);
        let rest = [CHALLENGE, ANSWER, SIGNATURE].into_iter().skip_while(|one| *one != at).skip(1);
        rest.for_each(|check| results.add(check, Verdict::NotReached, ""));
    }

    /// What was decided by the records, which are not kept as they were.
    fn decision(&self, failed: Option<&str>, results: &mut Results) {
        let reason = match &self.evidence.end {
            End::Refused { reason, .. } => reason.as_str(),
            End::Granted { .. } => "",
        };
        match failed {
            Some(LOCKS) => results.add(LOCKS, Verdict::Failed, reason),
            _ => {
                let details = "none was in force on the bot, the instance, the token or the EK";
                results.add(LOCKS, Verdict::Recorded, details);
            }
        }
        match (&self.evidence.rule, failed) {
            (_, Some(RULE)) => results.add(RULE, Verdict::Failed, reason),
            (Some(rule), _) => {
                results.result(RULE, self.rule(rule));
            }
            (None, _) => results.add(RULE, Verdict::NotReached, ""),
        }
    }

    /// Whether the recorded rule matches the recorded EK.
    fn rule(&self, rule: &Rule) -> Result<String, String> {
        let text = rule_text(rule);
        let claim = self.read()?;
        let (ek, _) = ek_of(&claim)?;
        let proven = ProvenEk { verified_by: self.evidence.verified_by.clone(), ..ek };
        if rule.matches(&proven) {
            Ok(format!("{text} of the token {} matched", self.evidence.token))
        } else {
            Err(format!("{text} does not match this EK"))
        }
    }
}

/// The check that a refusal is about.
fn failed_check(code: &str) -> &'static str {
    match code {
        "ek_untrusted" | "ek_certificate_missing" | "ek_chain_too_long" => CA,
        "ek_not_allowed" | "evidence_outdated" | "ek_of_other" => RULE,
        _ if code.starts_with("ek_") => EK,
        _ if code.starts_with("join_key_") || code.starts_with("ak_") => KEY,
        "answer_wrong" | "answer_late" | "abandoned" => ANSWER,
        "signature_wrong" => SIGNATURE,
        "locked" => LOCKS,
        "effort_spent" => EK,
        _ => RULE,
    }
}

fn chain_policy(policy: Policy) -> ChainPolicy {
    let Policy { expired_accepted, sha1_accepted, without_purpose_accepted } = policy;
    ChainPolicy {
        dates: if expired_accepted { DatePolicy::AtIssuance } else { DatePolicy::Now },
        sha1: if sha1_accepted { Sha1Policy::Accepted } else { Sha1Policy::Refused },
        purpose: match without_purpose_accepted {
            true => PurposePolicy::Accepted,
            false => PurposePolicy::Refused,
        },
    }
}

/// The EK of a claim, not verified, and what its certificate says.
fn ek_of(claim: &Evidence) -> Result<(ProvenEk, String), String> {
    match claim.ek.as_ref().map_err(|refusal| refusal.reason.clone())? {
        Ek::PublicKey(spki) => {
            let key = EkPublicKey::from_spki(spki).map_err(|cause| cause.to_string())?;
            let hash = key.public_hash().parse().map_err(|cause| format!("{cause}"))?;
            let ek = ProvenEk {
                public_hash: hash,
                certificate_serial: None,
                certificate_issuer: None,
                verified_by: None,
            };
            Ok((ek, format!("{}, without certificate", key_kind(&key))))
        }
        Ek::Certificate(der) => {
            let certificate = EkCertificate::parse(der).map_err(|cause| cause.to_string())?;
            let key = certificate.public_key();
            let hash = key.public_hash().parse().map_err(|cause| format!("{cause}"))?;
            let text = format!(
                "{}, certificate with the serial {} of {}, valid from {} until {}",
                key_kind(key),
                certificate.serial(),
                certificate.issuer_text(),
                date(certificate.not_before().seconds()),
                date(certificate.not_after().seconds()),
            );
            let ek = ProvenEk {
                public_hash: hash,
                certificate_serial: certificate.serial().parse().ok(),
                certificate_issuer: certificate.issuer_text().parse().ok(),
                verified_by: None,
            };
            Ok((ek, text))
        }
    }
}

fn ek_text(claim: &Evidence) -> Result<String, String> {
    let (ek, text) = ek_of(claim)?;
    Ok(format!("{text}, SHA-256 {}", ek.public_hash))
}

fn key_kind(key: &EkPublicKey) -> String {
    match key {
        EkPublicKey::Rsa(key) => format!("RSA {}", key.bits()),
        EkPublicKey::Ecc(key) => format!("{:?}", key.curve()).replace('P', "P-"),
    }
}

fn key_text(key: &AppraisedKey) -> String {
    let name = |name: &NameBuf| base16ct::lower::encode_string(name.octets());
    match key {
        AppraisedKey::JoinKey(key) => format!(
            "ECDSA P-256 with fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA and sign alone; Name {}",
            name(key.name())
        ),
        AppraisedKey::AttestationKey(key) => format!(
            "an attestation key, fixedTPM, fixedParent, sensitiveDataOrigin, restricted and sign, which certifies its own \
             creation; Name {}",
            name(key.name())
        ),
        AppraisedKey::ServiceKey(key) => format!("a service's key; Name {}", name(key.name())),
    }
}

fn rule_text(rule: &Rule) -> String {
    let hash = rule.ek_public_hash.as_ref().map(|hash| format!("ek_public_hash {hash}"));
    let serial = rule.ek_certificate_serial.as_ref();
    let serial = serial.map(|serial| format!("ek_certificate_serial {}", serial.as_str()));
    let issuer = rule.ek_certificate_issuer.as_ref();
    let issuer = issuer.map(|issuer| format!("ek_certificate_issuer {issuer:?}"));
    let all: Vec<_> = [hash, serial, issuer].into_iter().flatten().collect();
    all.join(" and ")
}

fn ca_text(ca: &CaCertificate) -> String {
    let end = date(ca.not_after().seconds());
    format!("{}, SHA-256 {}, valid until {end}", ca.subject_text(), ca.fingerprint())
}

fn date(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds);
    time.map_or_else(|_| "?".to_owned(), |time| time.date().to_string())
}

/// What the evidence does not show to others.
fn limits(evidence: &JoinEvidence) -> Vec<String> {
    let mut limits = vec![
        "That the TPM opened the credential convinces only the authority that made it: whoever has the recorded origin of the \
         challenge can compute the answer."
            .to_owned(),
        "Locks, and whether bot and token existed, are as recorded; the records themselves are not kept.".to_owned(),
    ];
    if matches!(evidence.answer, Some(Answer::Secret(_))) {
        limits.push(
            "Nothing shows where the certified key is: this protocol proves another key of the TPM.".to_owned(),
        );
    }
    limits
}
