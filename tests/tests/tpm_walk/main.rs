//! A walk through all of Part 3: every command that a software TPM has, brought to success alone, authorized by a session
//! in the place of a password, and with sessions that ride along, one that encrypts and one that audits; and the
//! recordings of it.

mod attestation;
mod contexts;
mod hierarchies;
mod ledger;
mod nv;
mod objects;
mod pcr;
mod policy;
mod primitives;
mod props;
mod sequences;
mod stage;
mod start;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anyhow::Result;
use ledger::{Ledger, Way, encryption};
use stage::{Act, Forgery, Played, Riding};
use testkit::bus::{command_code, response_code};
use testkit::double::Tally;
use testkit::swtpm::Kind;
use tests::golden::{Entry, Golden};
use tests::tpm::client;
use tpm2::commands::{CommandInfo, by_code};
use tpm2::transport::Exchange;
use tpm2::types::*;
use xtask::table;

/// All acts, in the order of Part 3's clauses.
fn acts() -> Vec<Act> {
    [
        start::ACTS,
        objects::ACTS,
        primitives::ACTS,
        sequences::ACTS,
        attestation::ACTS,
        pcr::ACTS,
        policy::ACTS,
        hierarchies::ACTS,
        contexts::ACTS,
        nv::ACTS,
    ]
    .concat()
}

/// The walk, which is made once for all tests here.
fn walk() -> &'static [Played] {
    static WALK: LazyLock<(Vec<Played>, Vec<String>)> = LazyLock::new(|| stage::play(&acts()));
    let (played, failures) = &*WALK;
    assert!(failures.is_empty(), "{} scenes failed:\n{}", failures.len(), failures.join("\n"));
    played
}

#[test]
fn every_command_that_the_tpm_has_succeeds_alone_and_under_sessions_of_each_kind() -> Result<()> {
    let mut ledger = Ledger::default();
    for exchange in walk().iter().flat_map(|scene| &scene.exchanges) {
        ledger.enter(exchange)?;
    }
    let swtpm = tests::tpm::start(Kind::NoCertificates)?;
    let comparison = table::compare(&mut client(&swtpm)?)?;
    assert!(comparison.different.is_empty(), "{comparison}");
    let implemented = comparison.alike;
    let mut missing = Vec::new();
    for (way, possible) in [
        (Way::Alone, (|_| true) as fn(&CommandInfo) -> bool),
        (Way::Authorization, |info| info.authorizations > 0),
        (Way::Session, |info| info.sessions),
        (Way::Cipher, |info| info.sessions && encryption(info) != SessionAttributes::NONE),
        (Way::Audit, |info| info.sessions),
    ] {
        let expected = implemented.iter().filter(|info| possible(info));
        let (done, left): (Vec<&CommandInfo>, Vec<&CommandInfo>) =
            expected.partition(|info| ledger.has(info.code, way));
        println!("{way:?}: {} of the {} commands", done.len(), implemented.len());
        missing.extend(left.iter().map(|info| format!("{way:?}: {}", info.name)));
    }
    assert!(missing.is_empty(), "never succeeded:\n{}", missing.join("\n"));
    Ok(())
}

/// Under every kind of session: a handle, which no HMAC covers, is the only thing that an attacker on the bus can change. Part 1
/// §18.8.
#[test]
fn any_changed_octet_of_any_answer_is_noticed_under_every_kind_of_session() -> Result<()> {
    let mut failures = Vec::new();
    let mut forged = BTreeSet::new();
    let (mut sum, mut sessions) = (Tally::default(), 0);
    for Forgery { command, part, tally } in walk().iter().flat_map(|scene| &scene.forgeries) {
        let tally = match tally {
            Ok(tally) => tally,
            Err(error) => {
                failures.push(format!("{error:#}"));
                continue;
            }
        };
        assert!(tally.forged > tally.malformed + tally.refused, "{command} {part:?}: {tally:?}");
        sum.forged += tally.forged;
        sum.malformed += tally.malformed;
        sum.refused += tally.refused;
        sum.handle += tally.handle;
        sessions += 1;
        forged.insert(*command);
    }
    assert!(failures.is_empty(), "believed:\n{}", failures.join("\n"));
    println!("{} commands, {sessions} with their sessions: {sum:?}", forged.len());
    let succeeded = walk().iter().flat_map(|scene| &scene.exchanges).filter_map(|exchange| {
        let info = by_code(command_code(&exchange.command))?;
        let done = response_code(&exchange.response) == ResponseCode::SUCCESS;
        (done && info.sessions).then_some(info)
    });
    let missing: BTreeSet<_> =
        succeeded.filter(|info| !forged.contains(&info.code)).map(|info| info.name).collect();
    assert!(missing.is_empty(), "never forged: {missing:?}");
    Ok(())
}

#[test]
fn commands_that_need_physical_presence_are_refused_without_it() -> Result<()> {
    stage::alone(hierarchies::physical_presence_is_refused)
}

/// One file for each name of an act, with each kind of message of a scene once. Parameters that a session has encrypted
/// say nothing to a reader, and are left out.
#[test]
fn the_golden_messages_are_what_a_tpm_says() -> Result<()> {
    let mut files: Vec<(&str, Vec<Entry>)> = Vec::new();
    let mut known = BTreeSet::new();
    let readable = [Riding::Nothing, Riding::Audit];
    for scene in walk().iter().filter(|scene| readable.contains(&scene.riding)) {
        if files.last().is_none_or(|(act, _)| *act != scene.act) {
            files.push((scene.act, Vec::new()));
        }
        let (_, entries) = files.last_mut().expect("one was pushed");
        for exchange in &scene.exchanges {
            let Exchange { command, response } = exchange;
            let kind = (command_code(command), response_code(response).0, command.len());
            if !known.insert((scene.act, kind)) {
                continue;
            }
            let mut title = scene.title.to_owned();
            if scene.riding == Riding::Audit {
                title += ", under an audit session";
            }
            let provenance = "recorded from swtpm".to_owned();
            entries.push(Entry { title, provenance, exchange: exchange.clone() });
        }
    }
    let count: usize = files.iter().map(|(_, entries)| entries.len()).sum();
    println!("{count} exchanges in {} files", files.len());
    for (act, entries) in files {
        let golden = Golden {
            file: &format!("golden/{act}.txt"),
            about: &format!("Commands of Part 3 ({act}) and a software TPM's answers."),
            again: "UPDATE=1 cargo test -p tests --test tpm_walk",
        };
        golden.agree(&entries)?;
    }
    Ok(())
}
