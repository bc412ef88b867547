//! The records that a decision was based on, so that its write can require them unchanged.

use std::fmt;

use super::{Change, Records, StoreError, Table};
use crate::resource::{Name, Target};

/// Which one of several bots or tokens of the same name: new with each creation, kept when the
/// resource is replaced. The default stands for one that a version without revisions has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Incarnation(Half);

/// Half of the record in [`Table::Revisions`] of a bot or a token: its incarnation, then what
/// changes with each write.
type Half = [u8; 16];

/// The revisions of the records that a grant is based on: a bot, a token and the locks on some targets. Its size does not depend
/// on theirs.
pub struct Basis {
    /// The bot.
    pub bot: Incarnation,
    /// The token.
    pub token: Incarnation,
    /// Fails a batch if one of them has changed since.
    pub(super) expected: Vec<Change>,
}

impl Basis {
    /// Requires that no workload identity has changed since this revision.
    pub(crate) fn expect_workload_identities(&mut self, revision: Option<Vec<u8>>) {
        let key = Table::WorkloadIdentities.name().to_owned();
        self.expected.push(Change::Expect(Table::Revisions, key, revision));
    }
}

impl fmt::Debug for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basis").field("bot", &self.bot).field("token", &self.token).finish()
    }
}

impl Records {
    /// Reads the basis of a grant. To be called before the records are read: if one is newer, the grant's write fails.
    pub async fn basis(
        &self,
        bot: &Name,
        token: &Name,
        targets: &[Target],
    ) -> Result<Basis, StoreError> {
        let mut expected = Vec::with_capacity(targets.len().saturating_add(2));
        let bot = self.incarnation(Table::Bots, bot, &mut expected).await?;
        let token = self.incarnation(Table::Tokens, token, &mut expected).await?;
        for target in targets {
            let key = locks_key(&format!("{target}/"));
            let revision = self.0.read(Table::Revisions, &key).await?;
            expected.push(Change::Expect(Table::Revisions, key, revision));
        }
        Ok(Basis { bot, token, expected })
    }

    async fn incarnation(
        &self,
        table: Table,
        name: &Name,
        expected: &mut Vec<Change>,
    ) -> Result<Incarnation, StoreError> {
        let key = record_key(table, name.as_str());
        let revision = self.0.read(Table::Revisions, &key).await?;
        let incarnation = incarnation_of(revision.as_deref());
        expected.push(match revision {
            Some(revision) => Change::Expect(Table::Revisions, key, Some(revision)),
            // Removed, or written by a version without revisions: the record itself tells.
            None => {
                let record = self.0.read(table, name.as_str()).await?;
                Change::Expect(table, name.to_string(), record)
            }
        });
        Ok(incarnation)
    }

    /// The change of a revision that goes with the creation of a bot or token, or, if there is one
    /// already, with its replacement.
    pub(super) async fn revised(
        &self,
        table: Table,
        name: &str,
        exists: bool,
    ) -> Result<Change, StoreError> {
        let key = record_key(table, name);
        let Incarnation(first) = match exists {
            true => incarnation_of(self.0.read(Table::Revisions, &key).await?.as_deref()),
            false => Incarnation(random()?),
        };
        let second: Half = random()?;
        Ok(Change::Put(Table::Revisions, key, [first, second].concat()))
    }
}

/// The change of a revision that goes with the removal of a bot or token.
pub(super) fn revision_removed(table: Table, name: &str) -> Change {
    Change::RemoveIfExists(Table::Revisions, record_key(table, name))
}

fn record_key(table: Table, name: &str) -> String {
    format!("{}/{name}", table.name())
}

/// The key of the revision of a target's locks, by the key of one of them in
/// [`Table::LockTargets`]: `TARGET/NAME`. No name holds a slash.
pub(super) fn locks_key(key: &str) -> String {
    let target = key.rsplit_once('/').map_or(key, |(target, _)| target);
    format!("{}/{target}", Table::LockTargets.name())
}

fn incarnation_of(revision: Option<&[u8]>) -> Incarnation {
    revision
        .and_then(|revision| revision.first_chunk())
        .copied()
        .map(Incarnation)
        .unwrap_or_default()
}

pub(super) fn random() -> Result<[u8; 16], StoreError> {
    let mut random = Half::default();
    getrandom::fill(&mut random).map_err(|cause| StoreError::Failed(cause.to_string()))?;
    Ok(random)
}
