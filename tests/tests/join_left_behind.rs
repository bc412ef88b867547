//! What a join leaves in a TPM without resource manager, and in the storage, wherever it fails: nothing.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::bus::{command_code, forward, refusal};
use testkit::child::Guarded;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use testkit::tap::Tap;
use tests::programs;
use tests::world::{Said, World, names};
use tpm2::types::{CommandCode, ResponseCode};

/// What a join that did not end leaves in the storage: which one it was.
const BEGUN: [&str; 2] = ["join.json", "lock"];

const ACTIVATE_CREDENTIAL: CommandCode = CommandCode(0x147);
const FLUSH_CONTEXT: CommandCode = CommandCode(0x165);

fn tpm(kind: Kind) -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, kind)?.start()
}

fn world(swtpm: &Swtpm) -> Result<World> {
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    Ok(world)
}

/// Joins while the TPM refuses the nth command, until there is no nth; returns how many there were.
fn refused_at_each_command(kind: Kind) -> Result<usize> {
    let swtpm = tpm(kind)?;
    let world = world(&swtpm)?;
    let before = swtpm.handles()?;
    let (failing, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tap = {
        let (failing, sent) = (Arc::clone(&failing), Arc::clone(&sent));
        Tap::with(&swtpm, move |command, tpm| {
            let flush = command_code(command) == FLUSH_CONTEXT;
            let now = if flush { usize::MAX } else { sent.fetch_add(1, Ordering::SeqCst) };
            // TPM_RC_DISABLED, for which there is no workaround.
            if now == failing.load(Ordering::SeqCst) {
                return Ok(refusal(ResponseCode(0x120)));
            }
            forward(tpm, command)
        })?
    };
    for nth in 0..40 {
        failing.store(nth, Ordering::SeqCst);
        sent.store(0, Ordering::SeqCst);
        let said = world.join(&tap.tcti(), "t", "storage")?;
        ensure!(swtpm.handles()? == before, "{kind:?}: left behind by a failure at command {nth}");
        if sent.load(Ordering::SeqCst) <= nth {
            said.success()?;
            return Ok(nth);
        }
        ensure!(said.code != Some(0), "{kind:?}: the failure of command {nth} was not noticed");
        ensure!(said.err.lines().count() == 2, "{nth}: {}", said.err);
        ensure!(said.err.contains("TPM"), "{nth}: {}", said.err);
        ensure!(names(&world.path("storage")) == BEGUN, "stored after a failure at {nth}");
    }
    anyhow::bail!("{kind:?}: no end")
}

#[test]
fn nothing_after_a_failure_at_any_command_with_the_ek_persistent() -> Result<()> {
    for (kind, at_least) in [(Kind::RsaAndP384, 7), (Kind::P384Only, 7)] {
        let commands = refused_at_each_command(kind)?;
        assert!(commands >= at_least, "{kind:?}: {commands}");
    }
    Ok(())
}

#[test]
fn nothing_after_a_failure_at_any_command_with_the_ek_made_for_it() -> Result<()> {
    assert!(refused_at_each_command(Kind::P256NotPersistent)? >= 8);
    Ok(())
}

/// An RSA key takes half a minute on some chips: it is made only where it is known not to be there.
#[test]
fn failing_tpm_is_not_asked_to_create_its_ek_again() -> Result<()> {
    const START_AUTH_SESSION: CommandCode = CommandCode(0x176);
    const CREATE_PRIMARY: CommandCode = CommandCode(0x131);
    let swtpm = tpm(Kind::RsaAndP384)?;
    let world = world(&swtpm)?;
    let tap = Tap::with(&swtpm, move |command, tpm| match command_code(command) {
        START_AUTH_SESSION => Ok(refusal(ResponseCode::FAILURE)),
        _ => forward(tpm, command),
    })?;
    let said = world.join(&tap.tcti(), "t", "storage")?;
    assert!(said.failure(74)?[0].contains("TPM_RC_FAILURE"), "{said:?}");
    let made = tap.recording().exchanges();
    assert!(made.iter().all(|exchange| command_code(&exchange.command) != CREATE_PRIMARY));
    Ok(())
}

#[test]
fn nothing_from_joins_of_every_kind() -> Result<()> {
    for kind in Kind::ALL {
        let swtpm = tpm(kind)?;
        let world = world(&swtpm)?;
        let before = swtpm.handles()?;
        for storage in ["one", "one", "two"] {
            world.join(&swtpm.tcti(), "t", storage)?.success()?;
            assert_eq!(swtpm.handles()?, before, "{kind:?}");
        }
    }
    Ok(())
}

#[test]
fn a_tpm_that_hangs_up_is_an_error_with_advice() -> Result<()> {
    let swtpm = tpm(Kind::P256)?;
    let world = world(&swtpm)?;
    for code in [CommandCode(0x131), ACTIVATE_CREDENTIAL] {
        let tap = Tap::with(&swtpm, move |command, tpm| {
            if command_code(command) == code {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            forward(tpm, command)
        })?;
        let said = world.join(&tap.tcti(), "t", "storage")?;
        let [what, _] = said.failure(74)?;
        assert!(what.contains("TPM2_"), "{what}");
        assert_eq!(names(&world.path("storage")), BEGUN);
    }
    Ok(())
}

/// Runs a join that does `meanwhile` just before its TPM opens the authority's challenge.
fn interrupted(
    swtpm: &Swtpm,
    world: World,
    meanwhile: impl FnOnce(&mut World) + Send + 'static,
) -> Result<(World, Said)> {
    let shared = Arc::new(Mutex::new((Some(world), Some(meanwhile))));
    let inside = Arc::clone(&shared);
    let tap = Tap::with(swtpm, move |command, tpm| {
        if command_code(command) == ACTIVATE_CREDENTIAL
            && let Ok(mut inside) = inside.lock()
            && let Some(meanwhile) = inside.1.take()
            && let Some(world) = &mut inside.0
        {
            meanwhile(world);
        }
        forward(tpm, command)
    })?;
    let tcti = tap.tcti();
    let mut command = {
        let shared = shared.lock().ok().context("poisoned")?;
        let world = shared.0.as_ref().context("a world")?;
        world.agent_command(&world.join_arguments(&tcti, "t", "storage"))
    };
    let said = Said::by(&mut command)?;
    // Out of the tap, whose thread lives on.
    let world = shared.lock().ok().context("poisoned")?.0.take().context("a world")?;
    Ok((world, said))
}

#[test]
fn an_authority_killed_in_the_middle_of_a_join() -> Result<()> {
    let swtpm = tpm(Kind::P256)?;
    let before = swtpm.handles()?;
    let (mut world, said) = interrupted(&swtpm, world(&swtpm)?, World::kill)?;
    let [what, _] = said.failure(69)?;
    assert!(what.contains("authority"), "{what}");
    assert_eq!(swtpm.handles()?, before);
    assert_eq!(names(&world.path("storage")), BEGUN);

    world.start(&[])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    assert_eq!(world.instances()?, 1, "the token was acknowledged, the first join was not");
    Ok(())
}

#[test]
fn an_authority_stopped_in_the_middle_of_a_join_lets_it_end() -> Result<()> {
    let swtpm = tpm(Kind::P256)?;
    let before = swtpm.handles()?;
    let (mut world, said) = interrupted(&swtpm, world(&swtpm)?, |world| {
        world.begin_to_stop().expect("SIGTERM");
        thread::sleep(Duration::from_millis(300));
    })?;
    said.success()?;
    assert_eq!(swtpm.handles()?, before);
    world.stop()?;
    world.start(&[])?;
    assert_eq!(world.instances()?, 1);
    Ok(())
}

#[test]
fn a_token_that_is_removed_in_the_middle_of_a_join() -> Result<()> {
    // What is there when the join is recorded counts, though the challenge is out already.
    let swtpm = tpm(Kind::P256)?;
    let before = swtpm.handles()?;
    let (world, said) = interrupted(&swtpm, world(&swtpm)?, |world| {
        world.authority(&["rm", "token/t"]).expect("rm");
    })?;
    said.failure(1)?;
    world.refused("token_unknown")?;
    world.join(&swtpm.tcti(), "t", "second")?.failure(1)?;
    world.refused("token_unknown")?;
    assert_eq!(swtpm.handles()?, before);
    Ok(())
}

#[test]
fn a_killed_authority_loses_nothing_that_it_acknowledged() -> Result<()> {
    let swtpm = tpm(Kind::P256)?;
    let mut world = world(&swtpm)?;
    let token = world.authority(&["get", "token/t"])?.success()?;
    for round in 0..4 {
        world.join(&swtpm.tcti(), "t", "storage")?.success()?;
        world.create(&format!(
            "kind: bot\nversion: v1\nmetadata:\n  name: bot-{round}\nspec:\n  roles: []\n"
        ))?;
        world.kill();
        world.start(&[])?;
        assert_eq!(world.authority(&["get", "token/t"])?.success()?, token);
        world.authority(&["get", &format!("bot/bot-{round}")])?.success()?;
        world.granted()?;
    }
    assert_eq!(world.instances()?, 4);
    Ok(())
}

#[test]
fn a_killed_agent_leaves_its_storage_as_it_was() -> Result<()> {
    // Only a TPM with a resource manager forgets what a killed client has loaded; this one is reset instead.
    let mut swtpm = tpm(Kind::P256)?;
    let before = swtpm.handles()?;
    let world = world(&swtpm)?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    let stored = std::fs::read(world.path("storage/identity.json"))?;
    for delay in [5, 20, 60, 120] {
        let tcti = swtpm.tcti();
        let mut command = world.agent_command(&world.join_arguments(&tcti, "t", "storage"));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let agent = Guarded::spawn(&mut command, None)?;
        thread::sleep(Duration::from_millis(delay));
        drop(agent);
        let identity = agent::storage::Storage::identity(&world.path("storage"))?;
        assert!(identity.is_some(), "{stored:?}");
        swtpm = swtpm.power_cycle()?;
    }
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    assert_eq!(swtpm.handles()?, before);
    let left = names(&world.path("storage"));
    let hidden: Vec<_> = left.iter().filter(|name| name.starts_with('.')).collect();
    assert!(hidden.len() <= 3, "more than ..data, this set and the one before: {left:?}");
    Ok(())
}
