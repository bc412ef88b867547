//! authority explain

use std::fmt::Write;

use host::exit::{Exit, Failure};
use host::output::write;
use host::terminal::escape;
use proto::v1::ExplainJoinRequest;

use super::client::{connect, refused};
use super::table::to_seconds;
use crate::cli::{Explain, ListFormat};
use crate::evidence::End;
use crate::service::explain::{Check, Explanation, Today, Verdict};

pub(super) async fn explain(explain: Explain) -> Result<(), Failure> {
    let mut authority = connect(&explain.data).await?;
    let request = ExplainJoinRequest { join_id: explain.join.to_string() };
    let answer = authority.explain_join(request).await.map_err(|cause| match cause.code() {
        tonic::Code::InvalidArgument => {
            let advice = "run `authority audit ls --event bot.join --format json`: join_id is the ID of the join";
            Failure::new(Exit::Refused, cause.message(), advice)
        }
        _ => refused(&cause),
    })?;
    let json = answer.into_inner().explanation;
    let explanation: Explanation = serde_json::from_str(&json).map_err(|cause| {
        let advice = "use the program of the authority's version";
        Failure::new(Exit::Data, format!("malformed response: {cause}"), advice)
    })?;
    write(match explain.format {
        ListFormat::Json => format!("{json}\n"),
        ListFormat::Text => text(&explanation),
    })?;
    if explanation.is_consistent {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        "the evidence does not lead to the recorded result",
        "compare evidence_sha256 with the event of the join in the log, and run `authority audit verify`",
    ))
}

fn text(explanation: &Explanation) -> String {
    let Explanation { join_id, time, remote, protocol, token, bot, .. } = explanation;
    let Explanation { authority, version, evidence_sha256, .. } = explanation;
    let mut text = String::new();
    let mut line = |label: &str, what: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{label:<9} {}", escape(&what));
    };
    line("Join", format!("{join_id} at {} from {remote}", to_seconds(&time.to_string())));
    line("Protocol", protocol.clone());
    line("Token", format!("{token}, for the bot {bot}"));
    line("TPM", explanation.ek_pub_hash.clone().unwrap_or_else(|| "unknown".to_owned()));
    line("Authority", format!("{authority}, version {version}"));
    line("Evidence", format!("SHA-256 {evidence_sha256}"));
    line("Result", result(&explanation.end));
    text.push_str("\nChecked in this order, repeated now with the evidence; recorded: only as the authority noted it:\n");
    for Check { check, result, details } in &explanation.checks {
        let verdict = match result {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Recorded => "recorded",
            Verdict::NotReached => "not reached",
        };
        let details = if details.is_empty() { String::new() } else { format!(": {details}") };
        let _ = writeln!(text, "  {verdict:<11}  {check}{}", escape(&details));
    }
    text.push_str("\nWhat this does not show:\n");
    for limit in &explanation.limits {
        let _ = writeln!(text, "  {limit}");
    }
    let Today { granted, refusal, remarks } = &explanation.today;
    let today = match (granted, refusal) {
        (true, _) => "granted".to_owned(),
        (false, code) => format!("refused, {}", code.as_deref().unwrap_or("unknown")),
    };
    let _ = writeln!(text, "\nToday such a join would be {today}:");
    for remark in remarks {
        let _ = writeln!(text, "  {}", escape(remark));
    }
    text
}

fn result(end: &End) -> String {
    match end {
        End::Granted { instance, generation, certificate_serial, certificate_expires } => {
            let until = to_seconds(&certificate_expires.to_string());
            format!(
                "granted: instance {instance}, generation {generation}, certificate {certificate_serial} until {until}"
            )
        }
        End::Refused { refusal, reason } => format!("refused, {refusal}: {reason}"),
    }
}
