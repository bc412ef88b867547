//! A table, read page by page.

use super::{Keyed, Range, Store, StoreError, Table};

/// Records in a page: some hundred kilobytes of instances.
const PAGE: usize = 256;

/// Reads the records of a table whose keys begin with a prefix, a page at a time.
///
/// Each page is read by itself: a record that is written or removed meanwhile may be there or not,
/// and every other one is there once.
pub struct Pages<'s> {
    store: &'s dyn Store,
    table: Table,
    prefix: String,
    after: Option<String>,
    limit: usize,
    ended: bool,
}

impl<'s> Pages<'s> {
    /// All records of the table whose keys begin so.
    pub fn new(store: &'s dyn Store, table: Table, prefix: impl Into<String>) -> Self {
        Self { store, table, prefix: prefix.into(), after: None, limit: PAGE, ended: false }
    }

    /// Those after this key.
    #[must_use]
    pub fn after(self, after: Option<String>) -> Self {
        Self { after, ..self }
    }

    /// With at most so many records in a page.
    #[must_use]
    pub fn of(self, limit: usize) -> Self {
        Self { limit: limit.max(1), ..self }
    }

    /// The next page; `None` after the last one. No page is empty.
    pub async fn next(&mut self) -> Result<Option<Vec<Keyed>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let (after, limit) = (self.after.as_deref(), self.limit);
        let range = Range { table: self.table, prefix: &self.prefix, after, limit };
        let page = self.store.list(range).await?;
        self.ended = page.len() < self.limit;
        self.after = page.last().map(|(key, _)| key.clone());
        Ok((!page.is_empty()).then_some(page))
    }

    /// All that are left, in memory at once.
    pub async fn all(mut self) -> Result<Vec<Keyed>, StoreError> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }
}
