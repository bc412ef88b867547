//! Rules that one caller can see.

use super::{Change, Check, Pages, Range, Seen, Space, StoreError, TABLE, Table, by_name, equal};

pub(super) const RULES: &[(&str, Check)] = by_name![
    read_returns_what_was_written,
    tables_are_apart,
    key_is_compared_byte_by_byte,
    empty_key_and_empty_record_are_stored,
    large_record_is_stored,
    list_is_in_order_of_bytes,
    list_has_all_keys_that_begin_so_and_no_other,
    list_goes_on_after_any_key,
    list_has_no_more_than_the_limit,
    batch_is_carried_out_in_order,
    batch_that_fails_changes_nothing,
    large_batch_is_written,
    empty_batch_succeeds,
    insert_fails_if_the_record_exists,
    put_makes_or_replaces,
    replace_fails_unless_the_record_is_as_it_was,
    remove_fails_if_there_is_no_record,
    remove_if_exists_succeeds_without_a_record,
    remove_all_removes_what_begins_so_and_nothing_else,
    expect_fails_unless_the_record_is_so,
    condition_sees_the_changes_before_it_in_its_batch,
    error_names_the_first_condition_that_does_not_hold,
    entries_are_numbered_in_the_order_of_their_batches,
    refused_batch_appends_nothing_and_leaves_no_gap,
    logs_are_apart,
    acknowledged_batch_is_there_for_the_next_process,
    snapshot_shows_no_later_write,
];

async fn read_returns_what_was_written(space: Space) -> Result<(), Seen> {
    space.is("a", None).await?;
    space.write([space.put("a", "one")]).await?;
    space.is("a", Some("one")).await?;
    space.is("b", None).await
}

async fn tables_are_apart(space: Space) -> Result<(), Seen> {
    space.write([space.put("a", "bot")]).await?;
    let key = space.key("a");
    equal("the key in another table", &space.store().read(Table::Tokens, &key).await?, &None)?;
    space.write([Change::Insert(Table::Tokens, key.clone(), "token".into())]).await?;
    space.is("a", Some("bot")).await?;
    space.write([Change::Remove(Table::Tokens, key)]).await?;
    space.is("a", Some("bot")).await?;
    let listed = Pages::new(space.store(), Table::Tokens, space.key("")).all().await?;
    equal("records of another table", &listed, &Vec::new())
}

async fn key_is_compared_byte_by_byte(space: Space) -> Result<(), Seen> {
    // Equal to a collation, a trimmed comparison or a pattern, and part of one another.
    let keys = ["a", "A", "a ", "ab", "a/b", "a%", "a_", "\u{e1}", "a\u{301}", "a\\"];
    for (index, key) in keys.iter().enumerate() {
        space.write([space.insert(key, index.to_string())]).await?;
    }
    for (index, key) in keys.iter().enumerate() {
        space.is(key, Some(&index.to_string())).await?;
    }
    space.write([space.remove("a")]).await?;
    space.is("a", None).await?;
    for key in &keys[1..] {
        equal(key, &space.store().read(TABLE, &space.key(key)).await?.is_some(), &true)?;
    }
    Ok(())
}

async fn empty_key_and_empty_record_are_stored(space: Space) -> Result<(), Seen> {
    space.write([space.put("a", "")]).await?;
    space.is("a", Some("")).await?;
    space.write([space.expect("a", Some("")), space.replace("a", "", "b")]).await?;
    space.refused([space.expect("a", Some(""))], StoreError::Changed, "a").await?;
    let empty = |record: &str| Change::Put(Table::Clock, String::new(), record.into());
    space.write([empty("x")]).await?;
    equal("the empty key", &space.store().read(Table::Clock, "").await?, &Some("x".into()))?;
    let listed = space
        .store()
        .list(Range { table: Table::Clock, prefix: "", after: None, limit: 10 })
        .await?;
    equal("the empty key, listed", &listed, &vec![(String::new(), "x".into())])
}

async fn large_record_is_stored(space: Space) -> Result<(), Seen> {
    let large = (0..=255).collect::<Vec<u8>>().repeat(32 * 1024);
    space.write([space.put("a", large.clone())]).await?;
    let found = space.store().read(TABLE, &space.key("a")).await?;
    equal("the length of 8 MiB", &found.as_ref().map(Vec::len), &Some(large.len()))?;
    equal("8 MiB of bytes", &found, &Some(large))?;
    space.write([space.remove("a")]).await
}

async fn list_is_in_order_of_bytes(space: Space) -> Result<(), Seen> {
    let mut keys = ["a/b", "a-b", "a/B", "A/c", "a", "b", "B", "\u{e9}", "z", "\u{10ffff}", "a b"];
    for key in keys {
        space.write([space.put(key, key)]).await?;
    }
    keys.sort_unstable_by_key(|key| key.as_bytes());
    space.keys_are("", &keys).await
}

async fn list_has_all_keys_that_begin_so_and_no_other(space: Space) -> Result<(), Seen> {
    let keys = ["a", "a%", "a%b", "a/", "a/b", "a_", "a_b", "aa", "ab", "b", "\u{10ffff}b"];
    for key in keys {
        space.write([space.put(key, "")]).await?;
    }
    space.keys_are("a", &keys[..9]).await?;
    space.keys_are("a/", &["a/", "a/b"]).await?;
    space.keys_are("a_", &["a_", "a_b"]).await?;
    space.keys_are("a%", &["a%", "a%b"]).await?;
    space.keys_are("ab", &["ab"]).await?;
    space.keys_are("c", &[]).await?;
    space.keys_are("\u{10ffff}", &["\u{10ffff}b"]).await?;
    space.keys_are("\\", &[]).await
}

async fn list_goes_on_after_any_key(space: Space) -> Result<(), Seen> {
    for key in ["a", "b/1", "b/2", "b/3", "c"] {
        space.write([space.put(key, "")]).await?;
    }
    let after = async |prefix: &str, after: &str, must: &[&str]| {
        let found = space.list(prefix, Some(after), 10).await?;
        let found: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        let must: Vec<_> = must.iter().map(|key| space.key(key)).collect();
        equal(&format!("keys after {after:?}"), &found, &must)
    };
    after("b/", "b/1", &["b/2", "b/3"]).await?;
    // Of a record that is gone, or never was.
    after("b/", "b/10", &["b/2", "b/3"]).await?;
    after("b/", "b/", &["b/1", "b/2", "b/3"]).await?;
    after("b/", "a", &["b/1", "b/2", "b/3"]).await?;
    after("b/", "b/3", &[]).await?;
    after("b/", "c", &[]).await?;
    after("", "b/3", &["c"]).await
}

async fn list_has_no_more_than_the_limit(space: Space) -> Result<(), Seen> {
    for key in ["a", "b", "c", "d"] {
        space.write([space.put(key, key)]).await?;
    }
    let prefix = space.key("");
    for limit in [0, 1, 3, 4, 5] {
        let found = space.list("", None, limit).await?;
        equal(&format!("records of at most {limit}"), &found.len(), &limit.min(4))?;
    }
    let mut pages = Pages::new(space.store(), TABLE, prefix).of(2);
    let mut paged = Vec::new();
    while let Some(page) = pages.next().await? {
        paged.extend(page.into_iter().map(|(_, record)| record));
    }
    let must: Vec<Vec<u8>> = ["a", "b", "c", "d"].map(Into::into).into();
    equal("pages of two", &paged, &must)
}

async fn batch_is_carried_out_in_order(space: Space) -> Result<(), Seen> {
    space.write([space.put("a", "1"), space.put("a", "2")]).await?;
    space.is("a", Some("2")).await?;
    space.write([space.remove("a"), space.insert("a", "3")]).await?;
    space.is("a", Some("3")).await?;
    space.write([space.put("a", "4"), space.remove_if_exists("a")]).await?;
    space.is("a", None).await?;
    space.write([space.put("b/1", ""), space.remove_all("b/"), space.put("b/2", "")]).await?;
    space.keys_are("b/", &["b/2"]).await
}

async fn batch_that_fails_changes_nothing(space: Space) -> Result<(), Seen> {
    space.write([space.put("a", "1"), space.put("c/1", ""), space.put("c/2", "")]).await?;
    let token = Change::Put(Table::Tokens, space.key("t"), "".into());
    let changes = || {
        let mut all = vec![token.clone(), space.insert("b", ""), space.put("a", "2")];
        all.extend([space.remove_all("c/"), space.put("c/3", "")]);
        all
    };
    let mut before = changes();
    before.push(space.insert("a", "3"));
    space.refused(before, StoreError::Exists, "a").await?;
    let mut behind = vec![space.expect("a", None)];
    behind.extend(changes());
    space.refused(behind, StoreError::Changed, "a").await?;
    space.is("a", Some("1")).await?;
    space.is("b", None).await?;
    space.keys_are("c/", &["c/1", "c/2"]).await?;
    let token = space.store().read(Table::Tokens, &space.key("t")).await?;
    equal("another table's record", &token, &None)
}

async fn large_batch_is_written(space: Space) -> Result<(), Seen> {
    let keys: Vec<_> = (0..3000).map(|number| format!("{number:05}")).collect();
    space.write(keys.iter().map(|key| space.insert(key, key.as_str())).collect::<Vec<_>>()).await?;
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    space.keys_are("", &keys).await?;
    space.write([space.remove_all("")]).await?;
    space.keys_are("", &[]).await
}

async fn empty_batch_succeeds(space: Space) -> Result<(), Seen> {
    space.write([]).await
}

async fn insert_fails_if_the_record_exists(space: Space) -> Result<(), Seen> {
    space.write([space.insert("a", "1")]).await?;
    space.refused([space.insert("a", "2")], StoreError::Exists, "a").await?;
    space.refused([space.insert("a", "1")], StoreError::Exists, "a").await?;
    space.is("a", Some("1")).await
}

async fn put_makes_or_replaces(space: Space) -> Result<(), Seen> {
    space.write([space.put("a", "1")]).await?;
    space.write([space.put("a", "2")]).await?;
    space.is("a", Some("2")).await
}

async fn replace_fails_unless_the_record_is_as_it_was(space: Space) -> Result<(), Seen> {
    space.refused([space.replace("a", "1", "2")], StoreError::Changed, "a").await?;
    space.refused([space.replace("a", "", "2")], StoreError::Changed, "a").await?;
    space.is("a", None).await?;
    space.write([space.insert("a", "1")]).await?;
    space.refused([space.replace("a", "2", "3")], StoreError::Changed, "a").await?;
    space.is("a", Some("1")).await?;
    space.write([space.replace("a", "1", "2")]).await?;
    space.is("a", Some("2")).await
}

async fn remove_fails_if_there_is_no_record(space: Space) -> Result<(), Seen> {
    space.refused([space.remove("a")], StoreError::Missing, "a").await?;
    space.write([space.put("a", ""), space.put("ab", "")]).await?;
    space.write([space.remove("a")]).await?;
    space.keys_are("a", &["ab"]).await?;
    space.refused([space.remove("a")], StoreError::Missing, "a").await
}

async fn remove_if_exists_succeeds_without_a_record(space: Space) -> Result<(), Seen> {
    space.write([space.remove_if_exists("a")]).await?;
    space.write([space.put("a", ""), space.put("ab", "")]).await?;
    space.write([space.remove_if_exists("a")]).await?;
    space.keys_are("a", &["ab"]).await
}

async fn remove_all_removes_what_begins_so_and_nothing_else(space: Space) -> Result<(), Seen> {
    let keys = ["a", "a/", "a/1", "a/2", "a0", "a_", "b"];
    let all: Vec<_> = keys.iter().map(|key| space.put(key, "")).collect();
    space.write(all).await?;
    space.write([Change::Put(Table::Tokens, space.key("a/1"), "".into())]).await?;
    space.write([space.remove_all("a/")]).await?;
    space.keys_are("", &["a", "a0", "a_", "b"]).await?;
    let token = space.store().read(Table::Tokens, &space.key("a/1")).await?;
    equal("the record in another table", &token.is_some(), &true)?;
    space.write([space.remove_all("a_")]).await?;
    space.write([space.remove_all("none")]).await?;
    space.keys_are("", &["a", "a0", "b"]).await
}

async fn expect_fails_unless_the_record_is_so(space: Space) -> Result<(), Seen> {
    space.write([space.put("a", "1"), space.expect("b", None)]).await?;
    space.write([space.expect("a", Some("1")), space.expect("b", None)]).await?;
    space.refused([space.expect("a", Some("2"))], StoreError::Changed, "a").await?;
    space.refused([space.expect("a", None)], StoreError::Changed, "a").await?;
    space.refused([space.expect("b", Some("1"))], StoreError::Changed, "b").await?;
    space.is("a", Some("1")).await?;
    space.is("b", None).await
}

async fn condition_sees_the_changes_before_it_in_its_batch(space: Space) -> Result<(), Seen> {
    let twice = [space.insert("a", "1"), space.insert("a", "2")];
    space.refused(twice, StoreError::Exists, "a").await?;
    let all = [space.expect("a", None), space.insert("a", "1"), space.expect("a", Some("1"))];
    space.write(all).await?;
    let gone = [space.remove("a"), space.expect("a", Some("1"))];
    space.refused(gone, StoreError::Changed, "a").await?;
    let twice = [space.remove("a"), space.remove("a")];
    space.refused(twice, StoreError::Missing, "a").await?;
    space.write([space.put("a", "2"), space.replace("a", "2", "3")]).await?;
    space.is("a", Some("3")).await?;
    space.write([space.put("b/1", "")]).await?;
    let all = [space.remove_all("b/"), space.expect("b/1", None), space.insert("b/1", "")];
    space.write(all).await?;
    let gone = [space.put("b/2", ""), space.remove_all("b/"), space.remove("b/2")];
    space.refused(gone, StoreError::Missing, "b/2").await
}

async fn error_names_the_first_condition_that_does_not_hold(space: Space) -> Result<(), Seen> {
    space.write([space.put("a", "1")]).await?;
    let several =
        [space.expect("a", Some("1")), space.remove("c"), space.insert("a", ""), space.remove("b")];
    space.refused(several, StoreError::Missing, "c").await
}

async fn entries_are_numbered_in_the_order_of_their_batches(space: Space) -> Result<(), Seen> {
    space.log_is("l", &[]).await?;
    space.write([space.append("l", r#"{"a":1}"#)]).await?;
    space.log_is("l", &[r#"{"seq":0,"a":1}"#]).await?;
    let some = [space.append("l", "{}"), space.put("b", "1"), space.append("l", r#"{"b":2}"#)];
    space.write(some).await?;
    space.is("b", Some("1")).await?;
    space.log_is("l", &[r#"{"seq":0,"a":1}"#, r#"{"seq":1}"#, r#"{"seq":2,"b":2}"#]).await
}

async fn refused_batch_appends_nothing_and_leaves_no_gap(space: Space) -> Result<(), Seen> {
    space.write([space.append("l", "{}")]).await?;
    let late = [space.append("l", "{}"), space.expect("a", Some("1"))];
    space.refused(late, StoreError::Changed, "a").await?;
    let early = [space.expect("a", Some("1")), space.append("l", "{}")];
    space.refused(early, StoreError::Changed, "a").await?;
    space.log_is("l", &[r#"{"seq":0}"#]).await?;
    space.write([space.append("l", "{}")]).await?;
    space.log_is("l", &[r#"{"seq":0}"#, r#"{"seq":1}"#]).await
}

async fn logs_are_apart(space: Space) -> Result<(), Seen> {
    space.write([space.append("l", "{}"), space.append("m", "{}")]).await?;
    space.write([space.append("m", "{}")]).await?;
    space.log_is("l", &[r#"{"seq":0}"#]).await?;
    space.log_is("m", &[r#"{"seq":0}"#, r#"{"seq":1}"#]).await
}

async fn acknowledged_batch_is_there_for_the_next_process(space: Space) -> Result<(), Seen> {
    let Some(reopened) = &space.subject.reopened else { return Ok(()) };
    space.write([space.put("a", "1"), space.put("b", "")]).await?;
    space.write([space.replace("a", "1", "2"), space.remove("b")]).await?;
    let store = reopened();
    let prefix = &space.key("");
    let found = store.list(Range { table: TABLE, prefix, after: None, limit: 10 }).await?;
    equal("the records", &found, &vec![(space.key("a"), "2".into())])
}

async fn snapshot_shows_no_later_write(space: Space) -> Result<(), Seen> {
    let keys: Vec<_> = (0..5).map(|number| format!("{number}")).collect();
    space.write(keys.iter().map(|key| space.put(key, "before")).collect::<Vec<_>>()).await?;
    let mut snapshot = space.store().snapshot().await?;
    let prefix = space.key("");
    let range = Range { table: TABLE, prefix: &prefix, after: None, limit: 2 };
    let first = snapshot.list(range).await?;
    space.write([space.remove("2"), space.put("3", "after"), space.put("5", "after")]).await?;
    let after = first.last().map(|(key, _)| key.clone());
    let rest = snapshot.list(Range { after: after.as_deref(), limit: 10, ..range }).await?;
    let must: Vec<_> = keys.iter().map(|key| (space.key(key), "before".into())).collect();
    equal("the records of a snapshot", &[first, rest].concat(), &must)?;
    drop(snapshot);
    let now = space.store().snapshot().await?.list(Range { limit: 10, ..range }).await?;
    equal("how many records a later snapshot has", &now.len(), &5)?;
    space.is("3", Some("after")).await
}
