//! For commands that no authority may disturb.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::connection::{APPLICATION, Link};
use super::fault::{Fault, Kind};

/// The server may notice later than the operator that an authority has ended.
const SESSIONS_END: Duration = Duration::from_secs(5);

/// Refuses a database that an authority is connected to.
pub(super) async fn wait_for_sessions_to_end(link: &Link) -> Result<(), Fault> {
    let ask = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND application_name = $1 AND pid <> pg_backend_pid()";
    let until = Instant::now() + SESSIONS_END;
    loop {
        let rows = link.rows(ask, &[(&APPLICATION, Type::TEXT)]).await?;
        let sessions: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        if sessions == 0 {
            return Ok(());
        }
        if Instant::now() >= until {
            let text = format!(
                "it is in use: {sessions} sessions of authorities; stop them first (pg_stat_activity shows where they are)"
            );
            return Err(Fault::new(Kind::Fatal, text));
        }
        sleep(super::pause()).await;
    }
}

/// Raises the rounds of all writers: one that still runs finds that another process has its ID, and stops.
pub(super) async fn stop_writers(link: &Link) -> Result<(), Fault> {
    link.change("UPDATE endorse.writers SET round = round + 1", &[]).await.map(|_| ())
}
