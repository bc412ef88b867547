//! A backup of an authority: its records as they were at one moment. The private keys of the CAs are among them, wrapped.

pub mod file;
pub mod stream;

use self::stream::{Header, Part};
use crate::resource::Timestamp;
use crate::store::{Contents, Snapshot, StoreError, Tally};

/// Makes the parts of a backup.
pub struct Producer {
    header: Option<Header>,
    contents: Contents,
    tally: Tally,
    has_ended: bool,
}

impl Producer {
    /// Begins a backup of these records.
    ///
    /// # Errors
    /// The store failed, or is incomplete.
    pub async fn new(snapshot: Box<dyn Snapshot>, made: Timestamp) -> Result<Self, StoreError> {
        let mut contents = Contents::of_snapshot(snapshot);
        let format = contents.format().await?;
        let header = Header { made, version: env!("CARGO_PKG_VERSION").to_owned(), format };
        Ok(Self { header: Some(header), contents, tally: Tally::default(), has_ended: false })
    }

    /// The next part; `None` after the last one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next(&mut self) -> Result<Option<Part>, StoreError> {
        if let Some(header) = self.header.take() {
            return Ok(Some(Part::Header(header)));
        }
        if self.has_ended {
            return Ok(None);
        }
        if let Some((table, page)) = self.contents.next().await? {
            self.tally.add(table, &page);
            return Ok(Some(Part::Records(table, page)));
        }
        self.has_ended = true;
        Ok(Some(Part::End(self.tally.clone().summary())))
    }
}
