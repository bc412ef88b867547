//! Rules that only several callers at the same time can see.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Change, Check, Seen, Space, StoreError, TABLE, by_name, equal};

pub(super) const RULES: &[(&str, Check)] = by_name![
    of_many_that_insert_the_same_one_wins,
    no_replacement_is_lost,
    batch_that_expects_what_another_one_changes_fails,
    reader_sees_a_batch_as_a_whole,
    entries_that_are_appended_at_once_have_no_gap,
];

/// How often a race is run: a store that is wrong may win one by chance.
const ROUNDS: usize = 50;

/// Batches written at the same time; how many succeeded. Those that fail must say so like this.
async fn race(
    space: &Space,
    batches: Vec<Vec<Change>>,
    is_loss: fn(&StoreError) -> bool,
) -> Result<usize, Seen> {
    let barrier = Arc::new(Barrier::new(batches.len()));
    let mut racers = JoinSet::new();
    for batch in batches {
        let (space, barrier) = (space.clone(), Arc::clone(&barrier));
        racers.spawn(async move {
            barrier.wait().await;
            space.store().write(batch).await
        });
    }
    let mut winners = 0;
    for result in racers.join_all().await {
        match result {
            Ok(()) => winners += 1,
            Err(cause) if is_loss(&cause) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    Ok(winners)
}

async fn of_many_that_insert_the_same_one_wins(space: Space) -> Result<(), Seen> {
    for round in 0..ROUNDS {
        let key = round.to_string();
        let batches = (0..8).map(|racer| vec![space.insert(&key, racer.to_string())]).collect();
        let winners = race(&space, batches, |it| matches!(it, StoreError::Exists(..))).await?;
        equal("how many inserted the same", &winners, &1)?;
    }
    Ok(())
}

async fn no_replacement_is_lost(space: Space) -> Result<(), Seen> {
    space.write([space.put("sum", "0")]).await?;
    let mut adders = JoinSet::new();
    for _ in 0..8 {
        let space = space.clone();
        adders.spawn(async move {
            let (mut added, mut tries) = (0, 0);
            while added < 10 {
                tries += 1;
                equal("whether a replacement succeeds in the end", &(tries < 1000), &true)?;
                let was = space.store().read(TABLE, &space.key("sum")).await?;
                let was = String::from_utf8(was.unwrap_or_default()).unwrap_or_default();
                let next = was.parse::<u32>().map_or(0, |sum| sum + 1).to_string();
                match space.store().write(vec![space.replace("sum", &was, &next)]).await {
                    Ok(()) => added += 1,
                    Err(StoreError::Changed(..)) => {}
                    Err(cause) => return Err(Seen::from(cause)),
                }
            }
            Ok(())
        });
    }
    adders.join_all().await.into_iter().collect::<Result<(), _>>()?;
    space.is("sum", Some("80")).await
}

/// Each expects what the other one writes, and writes what the other one expects: a store that
/// compares with what was there before both lets both through (write skew).
async fn batch_that_expects_what_another_one_changes_fails(space: Space) -> Result<(), Seen> {
    for round in 0..ROUNDS {
        let (one, other) = (format!("{round}/1"), format!("{round}/2"));
        let batches = vec![
            vec![space.expect(&one, None), space.put(&other, "")],
            vec![space.expect(&other, None), space.put(&one, "")],
        ];
        let winners = race(&space, batches, |it| matches!(it, StoreError::Changed(..))).await?;
        equal("how many of two that exclude each other succeeded", &winners, &1)?;
    }
    Ok(())
}

async fn reader_sees_a_batch_as_a_whole(space: Space) -> Result<(), Seen> {
    let both = |round: usize| {
        let record = round.to_string();
        vec![space.put("a", record.as_str()), space.put("b", record.as_str())]
    };
    space.write(both(0)).await?;
    let writing = async {
        for round in 1..=ROUNDS {
            space.write(both(round)).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    let reading = async {
        loop {
            let found = space.list("", None, 10).await?;
            let records: Vec<_> = found.into_iter().map(|(_, record)| record).collect();
            let (a, b) = (records.first(), records.get(1));
            equal("two records that are always written together", &a, &b)?;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        result = reading => result,
        result = writing => result,
    }
}

/// Some of the batches are refused.
async fn entries_that_are_appended_at_once_have_no_gap(space: Space) -> Result<(), Seen> {
    let mut appended = 0;
    for round in 0..ROUNDS {
        let key = round.to_string();
        let batches = (0..8).map(|racer| match racer % 2 {
            0 => vec![space.append("l", "{}"), space.insert(&key, "")],
            _ => vec![space.append("l", "{}")],
        });
        let is_loss = |it: &StoreError| matches!(it, StoreError::Exists(..));
        appended += race(&space, batches.collect(), is_loss).await?;
    }
    equal("how many succeeded", &appended, &(ROUNDS * 5))?;
    let entries: Vec<_> = (0..appended).map(|number| format!("{{\"seq\":{number}}}")).collect();
    space.log_is("l", &entries.iter().map(String::as_str).collect::<Vec<_>>()).await
}
