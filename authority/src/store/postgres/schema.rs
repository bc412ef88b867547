//! The tables, which an operator makes with another role than that of the authority.

use tokio_postgres::types::Type;

use super::connection::Link;
use super::fault::{Fault, Kind};
use crate::store::Table;

/// The version of the tables that this program makes and uses.
const VERSION: i32 = 3;

/// How tables whose rows are often written again are stored: with room in their pages, so that an update touches no index, and
/// cleaned before a fifth of a million rows are dead.
const CHURNING: &str = " WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02)";

/// The table of a store's table.
pub(super) fn name(table: Table) -> String {
    format!("endorse.{}", table.name().to_ascii_lowercase().replace(' ', "_"))
}

/// What the tables say of themselves.
struct Found {
    version: i32,
    oldest: i32,
}

const FOUND: &str = "SELECT version, greatest(oldest_reader, oldest_writer) FROM endorse.schema";

/// Refuses tables that are missing, or that this program must not use.
pub(super) async fn check(link: &Link) -> Result<(), Fault> {
    let Found { version, oldest } = found(link).await?.ok_or_else(missing)?;
    if oldest > VERSION {
        return Err(newer(version));
    }
    if version < VERSION {
        return Err(missing());
    }
    Ok(())
}

fn newer(version: i32) -> Fault {
    Fault::new(Kind::Newer, format!("the database (schema {version})"))
}

fn missing() -> Fault {
    let text =
        "the tables of the database are missing or incomplete; run `authority store migrate`";
    Fault::new(Kind::Fatal, text)
}

async fn found(link: &Link) -> Result<Option<Found>, Fault> {
    let rows = link.rows(FOUND, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Found { version: row.try_get(0)?, oldest: row.try_get(1)? }))
}

/// Whether this program may write, also if the tables were upgraded while it runs.
pub(super) async fn may_write(link: &Link) -> Result<bool, Fault> {
    let ask = "SELECT oldest_writer <= $1 FROM endorse.schema";
    let rows = link.rows(ask, &[(&VERSION, Type::INT4)]).await?;
    Ok(rows.first().is_some_and(|row| matches!(row.try_get(0), Ok(true))))
}

/// Makes or upgrades the tables. Each statement is a transaction of its own, and may be repeated.
pub(super) async fn migrate(link: &Link, runtime_role: Option<&str>) -> Result<(), Fault> {
    link.batch("CREATE SCHEMA IF NOT EXISTS endorse").await?;
    let schema = "CREATE TABLE IF NOT EXISTS endorse.schema (one boolean PRIMARY KEY CHECK (one), version integer NOT NULL, \
                  oldest_reader integer NOT NULL, oldest_writer integer NOT NULL)";
    link.batch(schema).await?;
    if let Some(Found { version, oldest }) = found(link).await?
        && oldest > VERSION
    {
        return Err(newer(version));
    }
    let writers =
        "CREATE TABLE IF NOT EXISTS endorse.writers (id text PRIMARY KEY, round bigint NOT NULL)";
    link.batch(&format!("{writers}{CHURNING}")).await?;
    for table in Table::ALL {
        let how = match table {
            Table::Instances
            | Table::Revisions
            | Table::Clock
            | Table::LogHeads
            | Table::LogCursors
            | Table::Heartbeats => CHURNING,
            _ => "",
        };
        let columns = "key bytea PRIMARY KEY, value bytea NOT NULL";
        let statement = format!("CREATE TABLE IF NOT EXISTS {} ({columns}){how}", name(table));
        link.batch(&statement).await?;
    }
    if let Some(role) = runtime_role {
        grant(link, role).await?;
    }
    // Last: an interrupted migration is not complete.
    let version = "INSERT INTO endorse.schema (one, version, oldest_reader, oldest_writer) VALUES (true, $1, $1, $1) \
                   ON CONFLICT (one) DO UPDATE SET version = excluded.version WHERE endorse.schema.version < excluded.version";
    link.change(version, &[(&VERSION, Type::INT4)]).await?;
    Ok(())
}

/// What the authority needs, and no more: it changes no table.
async fn grant(link: &Link, role: &str) -> Result<(), Fault> {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    link.batch(&format!("GRANT USAGE ON SCHEMA endorse TO {role}")).await?;
    link.batch(&format!("GRANT SELECT ON endorse.schema TO {role}")).await?;
    link.batch(&format!("GRANT SELECT, INSERT, UPDATE ON endorse.writers TO {role}")).await?;
    for table in Table::ALL {
        let table = name(table);
        link.batch(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")).await?;
    }
    Ok(())
}
