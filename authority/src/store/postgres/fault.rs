//! What an error of the database means for what was asked of it.

use std::error::Error as _;
use std::fmt;

use tokio_postgres::error::SqlState;

use super::tls::Refused;
use crate::store::StoreError;

/// Why the database did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    text: String,
}

/// What follows from a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The transaction conflicted with another one: repeat it.
    Repeat,
    /// The connection is of no more use: repeat it on another one. What was being committed may be.
    Lost,
    /// The server works, but cannot do this now.
    Unavailable,
    /// An operator has to change something first.
    Fatal,
    /// The tables are for newer versions.
    Newer,
}

impl Fault {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The same fault, and where it was met.
    pub(super) fn at(self, place: impl fmt::Display) -> Self {
        Self { text: format!("{place}: {}", self.text), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            Kind::Repeat | Kind::Lost | Kind::Unavailable => Self::Failed(fault.text),
            Kind::Fatal => Self::Unusable(fault.text),
            Kind::Newer => Self::Newer(fault.text),
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let chain = || std::iter::successors(error.source(), |error| (*error).source());
            if let Some(refused) = chain().find_map(|cause| cause.downcast_ref::<Refused>()) {
                return Self::new(Kind::Fatal, printable(&refused.to_string()));
            }
            let causes = chain().map(|cause| format!(": {cause}")).collect::<String>();
            let text = format!("{error}{causes}");
            return Self::new(Kind::Lost, printable(&text));
        };
        let (kind, advice) = meaning(answer.code());
        let mut text = printable(answer.message());
        text.push_str(&format!(" (SQLSTATE {})", answer.code().code()));
        if !advice.is_empty() {
            text.push_str(&format!("; {advice}"));
        }
        Self::new(kind, text)
    }
}

/// The server's words without control characters, and not too many.
fn printable(text: &str) -> String {
    const MAX: usize = 500;
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).take(MAX).collect()
}

const MIGRATE: &str = "run `authority store migrate`";
const LOGIN: &str = "check the user, its password or certificate, and the server's pg_hba.conf";

/// What a code means here, and advice. Appendix A of PostgreSQL's manual.
fn meaning(code: &SqlState) -> (Kind, &'static str) {
    match code.code() {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => (Kind::Repeat, ""),
        // statement_completion_unknown; the transaction was aborted before; an idle session or transaction was ended
        "40003" | "25P02" | "25P03" | "25P04" | "57P05" => (Kind::Lost, ""),
        // read_only_sql_transaction: a standby since a failover
        "25006" => (Kind::Lost, "the server accepts no writes: it is a standby"),
        // admin_shutdown, crash_shutdown, cannot_connect_now
        "57P01" | "57P02" | "57P03" => (Kind::Lost, ""),
        // too_many_connections
        "53300" => (Kind::Unavailable, "raise `max_connections` of the server"),
        "53100" => (Kind::Unavailable, "the disk of the server is full"),
        // query_canceled, lock_not_available
        "57014" | "55P03" => (Kind::Unavailable, "the database is too slow"),
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => (Kind::Fatal, "restore the database from a backup"),
        // undefined_table, undefined_column, invalid_schema_name, insufficient_privilege
        "42P01" | "42703" | "3F000" | "42501" => (Kind::Fatal, MIGRATE),
        // invalid_authorization_specification, invalid_password
        "28000" | "28P01" => (Kind::Fatal, LOGIN),
        // invalid_catalog_name
        "3D000" => (Kind::Fatal, "create the database, or correct `store.url`"),
        // Class 08: connection exception
        code if code.starts_with("08") => (Kind::Lost, ""),
        _ => (Kind::Unavailable, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_decides_whether_to_repeat_to_reconnect_or_to_stop() {
        for (code, kind) in [
            ("40001", Kind::Repeat),
            ("40P01", Kind::Repeat),
            ("40003", Kind::Lost),
            ("08006", Kind::Lost),
            ("57P01", Kind::Lost),
            ("25006", Kind::Lost),
            ("53100", Kind::Unavailable),
            ("57014", Kind::Unavailable),
            ("22000", Kind::Unavailable),
            ("42P01", Kind::Fatal),
            ("28P01", Kind::Fatal),
            ("XX001", Kind::Fatal),
        ] {
            assert_eq!(meaning(&SqlState::from_code(code)).0, kind, "{code}");
        }
    }

    #[test]
    fn words_of_the_server_are_shown_without_control_characters() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a [31m b");
        assert_eq!(printable(&"x".repeat(10_000)).len(), 500);
    }
}
