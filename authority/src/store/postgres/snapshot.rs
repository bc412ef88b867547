//! All records at one moment: a transaction that reads only, on a connection of its own.

use tokio::time::timeout;

use super::Page;
use super::connection::{Link, Server};
use super::fault::{Fault, Kind};
use crate::store::{Keyed, Pending, Range, Snapshot};

/// The session may wait longer than others for what takes the records, such as an operator's terminal. It does not do so for ever,
/// since the server cleans up nothing that is newer than the snapshot.
const BEGIN: &str = "SET idle_in_transaction_session_timeout = '60s'; \
                     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A transaction. Its end closes the connection.
pub(super) struct PostgresSnapshot {
    link: Link,
    limit: std::time::Duration,
}

impl PostgresSnapshot {
    pub(super) async fn begin(server: &Server) -> Result<Self, Fault> {
        let link = server.connect().await?;
        link.batch(BEGIN).await?;
        // The snapshot is that of the first statement.
        link.rows("SELECT version FROM endorse.schema", &[]).await?;
        Ok(Self { link, limit: server.limits.read })
    }
}

impl Snapshot for PostgresSnapshot {
    fn list<'a>(&'a mut self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(async move {
            let page = Page::of(range);
            let parameters = page.parameters();
            let rows = timeout(self.limit, self.link.rows(&page.statement, &parameters)).await;
            let late = |_| {
                let text = format!("the database did not answer within {:?}", self.limit);
                Fault::new(Kind::Lost, text)
            };
            page.records(&rows.map_err(late)??)
        })
    }
}
