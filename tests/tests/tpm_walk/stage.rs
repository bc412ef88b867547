//! Where a scene is played: a TPM, what rides along on every command, and what was seen on the wire.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use testkit::double::{self, PARTS, Part, Spoken, Tally};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::tpm::{Way, persistent_ek, start, way};
use tpm2::commands::*;
use tpm2::crypto::{HashAlg, nv_name, object_name};
use tpm2::session::{self, Auth, Encryption, NewSession, Salted, Session};
use tpm2::transport::{Exchange, Record, Recording};
use tpm2::types::*;
use tpm2::wire::{Marshal, Tpm2b, Unmarshal, Writer};
use tpm2::{Error, Tpm};

/// Brings a TPM to where a command works, and runs it.
#[derive(Clone, Copy)]
pub struct Scene {
    /// What it shows.
    pub title: &'static str,
    /// How.
    pub play: fn(&mut Stage<'_>) -> Result<()>,
}

/// Scenes that share a TPM, by clause of Part 3.
#[derive(Clone, Copy)]
pub struct Act {
    /// The clause's subject, and the name of the file with what was recorded.
    pub name: &'static str,
    /// The scenes in order.
    pub scenes: &'static [Scene],
}

/// Which sessions are on every command that can have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Riding {
    /// Those that the scene itself has.
    Nothing,
    /// An HMAC session in the place of the first password. It is bound to the owner, and obfuscates.
    Authorization,
    /// An HMAC session that encrypts what can be encrypted, in both directions.
    Cipher,
    /// An HMAC session that audits.
    Audit,
}

const RIDINGS: [Riding; 4] =
    [Riding::Nothing, Riding::Authorization, Riding::Cipher, Riding::Audit];

/// What a scene authorizes by.
#[allow(clippy::large_enum_variant, reason = "on the stack, for the time of one command")]
pub enum Permit<'a> {
    /// The authorization value, given or proven, as what rides along has it.
    Value(&'a [u8]),
    /// A session of the scene's own.
    Session(Auth<'a>),
}

/// The authorization value that nearly everything here has.
pub const EMPTY: Permit<'static> = Permit::Value(&[]);

/// An authorization value.
pub const fn password(value: &[u8]) -> Permit<'_> {
    Permit::Value(value)
}

impl<'a> From<Auth<'a>> for Permit<'a> {
    fn from(auth: Auth<'a>) -> Self {
        Self::Session(auth)
    }
}

/// One scene that was played, and what was on the wire meanwhile.
pub struct Played {
    /// Its act's name.
    pub act: &'static str,
    /// Its title.
    pub title: &'static str,
    place: (usize, usize),
    pub riding: Riding,
    pub exchanges: Vec<Exchange>,
    /// What came of forging the answers to the commands that succeeded here first.
    pub forgeries: Vec<Forgery>,
}

/// The answer to a command, every byte of it changed in its turn on the way to a session with a part in the command.
pub struct Forgery {
    pub command: CommandCode,
    pub part: Part,
    pub tally: Result<Tally>,
}

/// A TPM with one client, for the length of a scene. What is left in the TPM is flushed at its end.
pub struct Stage<'s> {
    swtpm: &'s Swtpm,
    recording: Recording,
    tpm: Tpm<Record<Way>>,
    rider: Option<Salted>,
    authorizes: Option<Session>,
    forgeries: Option<Vec<Forgery>>,
}

impl<'s> Stage<'s> {
    fn new(swtpm: &'s Swtpm, riding: Riding) -> Result<Self> {
        let recording = Recording::default();
        let tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
        let mut stage =
            Self { swtpm, recording, tpm, rider: None, authorizes: None, forgeries: None };
        match riding {
            Riding::Nothing => stage.forgeries = Some(Vec::new()),
            Riding::Authorization => {
                let plan = NewSession::hmac(HashAlg::Sha256)
                    .bound(Hierarchy::Owner, b"")
                    .encrypting(session::Cipher::Xor);
                stage.authorizes = Some(stage.tpm.start(&plan)?);
            }
            Riding::Cipher => stage.rider = Some(stage.salted(Encryption::On)?),
            Riding::Audit => stage.rider = Some(stage.salted(Encryption::Off)?),
        }
        Ok(stage)
    }

    /// An HMAC session that is salted to an endorsement key.
    fn salted(&mut self, encryption: Encryption) -> Result<Salted> {
        let ek = persistent_ek(&mut self.tpm, "p384")?;
        Ok(self.tpm.start_salted_session(SessionType::HMAC, &ek.salt_key()?, encryption)?)
    }

    /// The client, for what only prepares.
    pub fn bare(&mut self) -> &mut Tpm<Record<Way>> {
        &mut self.tpm
    }

    /// Runs a command, with what rides along.
    pub fn run<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        permits: [Permit<'_>; N],
    ) -> Result<C::Response<'_>, Error> {
        let mut authorizes = self.authorizes.as_mut();
        let auths = permits.map(|permit| match permit {
            Permit::Session(auth) => auth,
            Permit::Value(value) => match authorizes.take() {
                Some(session) => session.auth(value),
                None => Auth::password(value),
            },
        });
        let answer = match &mut self.rider {
            Some(session) if C::INFO.sessions => self.tpm.secured(session).run(command, auths),
            _ => self.tpm.run(command, auths),
        }?;
        if let Some(forgeries) = &mut self.forgeries {
            let exchanges = self.recording.exchanges();
            let octets =
                exchanges.last().and_then(|last| last.response.get(10..14)?.try_into().ok());
            let handle = octets.map(|octets| Handle(u32::from_be_bytes(octets)));
            forge(command, &answer, handle, forgeries);
        }
        Ok(answer)
    }

    /// Expects the TPM to refuse a command with this code.
    pub fn refused<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        permits: [Permit<'_>; N],
        code: ResponseCode,
    ) -> Result<()> {
        match self.run(command, permits).map(drop).map_err(|error| error.refusal()) {
            Err(Some(refusal)) if refusal == code => Ok(()),
            other => Err(anyhow!("{} gave {other:?} instead of {code:?}", C::INFO.name)),
        }
    }

    /// A primary object of the owner's.
    pub fn primary(&mut self, public: Public<'_>, sensitive: SensitiveCreate<'_>) -> Result<Made> {
        let command = tests::tpm::create(Hierarchy::Owner, public, sensitive);
        let answer = self.run(&command, [EMPTY])?;
        let public = octets(&answer.out_public.0)?;
        let name = object_name(&answer.out_public.0)?;
        ensure!(answer.name.octets() == name.octets(), "another Name");
        Ok(Made { object: answer.object_handle.named(name), public })
    }

    /// A primary object without secrets of the caller's.
    pub fn key(&mut self, public: Public<'_>) -> Result<Object> {
        Ok(self.primary(public, SensitiveCreate::EMPTY)?.object)
    }

    /// An object under a parent, not loaded.
    pub fn child(
        &mut self,
        parent: Object,
        public: Public<'_>,
        sensitive: SensitiveCreate<'_>,
    ) -> Result<Child> {
        let command = Create {
            parent_handle: parent,
            in_sensitive: Tpm2b(sensitive),
            in_public: Tpm2b(public),
            outside_info: Data::EMPTY,
            creation_pcr: PcrSelections::new(&[]),
        };
        let answer = self.run(&command, [EMPTY])?;
        Ok(Child {
            private: answer.out_private.octets().to_vec(),
            public: octets(&answer.out_public.0)?,
        })
    }

    /// Loads an object under its parent.
    pub fn load(&mut self, parent: Object, child: &Child) -> Result<Object> {
        let public = child.public()?;
        let command = Load {
            parent_handle: parent,
            in_private: Private::new(&child.private)?,
            in_public: Tpm2b(public),
        };
        let name = object_name(&public)?;
        let answer = self.run(&command, [EMPTY])?;
        ensure!(answer.name.octets() == name.octets(), "another Name");
        Ok(answer.object_handle.named(name))
    }

    /// Removes an object or a session.
    pub fn flush(&mut self, entity: &impl Entity) -> Result<()> {
        self.tpm.flush(entity.handle())?;
        Ok(())
    }

    /// A policy session.
    pub fn policy(&mut self) -> Result<Session> {
        Ok(self.tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?)
    }

    /// The digest of the policy that `steps` make in a trial session.
    pub fn trial(
        &mut self,
        steps: impl FnOnce(&mut Self, SessionHandle) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let session = self.tpm.start_session(SessionType::TRIAL, HashAlg::Sha256)?.handle();
        steps(self, session)?;
        let digest = self.policy_digest(session)?;
        self.flush(&session)?;
        Ok(digest)
    }

    /// Where a policy session is.
    pub fn policy_digest(&mut self, policy_session: SessionHandle) -> Result<Vec<u8>> {
        let answer = self.run(&PolicyGetDigest { policy_session }, [])?;
        Ok(answer.policy_digest.octets().to_vec())
    }

    /// An NV index with the Name that it has now.
    pub fn index(&mut self, handle: Handle) -> Result<NvIndex> {
        let unnamed = NvIndex::unnamed(handle);
        let answer = self.tpm.run(&NvReadPublic { nv_index: unnamed }, [])?;
        let name = nv_name(&answer.nv_public.0)?;
        ensure!(answer.nv_name.octets() == name.octets(), "another Name");
        Ok(NvIndex::named(handle, name))
    }

    /// TPM Reset by swtpm's control channel: CMD_STOP, CMD_INIT. The TPM then waits for TPM2_Startup, and nothing can
    /// ride along before it.
    pub fn reset(&mut self) -> Result<()> {
        (self.rider, self.authorizes) = (None, None);
        self.tpm.flush_all()?;
        let tcti = self.swtpm.tcti();
        let socket = tcti.strip_prefix("swtpm:path=").context("not on a unix socket")?;
        let mut control = UnixStream::connect(Path::new(socket).with_file_name("ctl.sock"))?;
        for command in [&[0, 0, 0, 0x0e][..], &[0, 0, 0, 2, 0, 0, 0, 0]] {
            control.write_all(command)?;
            let mut result = [0xff; 4];
            control.read_exact(&mut result)?;
            ensure!(result == [0; 4], "the control channel says {result:?}");
        }
        Ok(())
    }
}

/// Forges the answer to a command that was not forged before.
fn forge<C: Authorized<N>, const N: usize>(
    command: &C,
    answer: &C::Response<'_>,
    handle: Option<Handle>,
    forgeries: &mut Vec<Forgery>,
) {
    static DONE: Mutex<BTreeSet<CommandCode>> = Mutex::new(BTreeSet::new());
    let code = C::INFO.code;
    if !DONE.lock().expect("no scene panics").insert(code) {
        return;
    }
    let spoken = Spoken {
        handle: handle.filter(|_| C::INFO.response.handle.is_some()),
        parameters: double::parameters(answer),
    };
    for part in PARTS {
        if let Some(tally) = double::forge(command, &spoken, part).transpose() {
            forgeries.push(Forgery { command: code, part, tally });
        }
    }
}

/// A loaded object and its public area.
pub struct Made {
    pub object: Object,
    pub public: Vec<u8>,
}

/// An object that is not loaded.
pub struct Child {
    pub private: Vec<u8>,
    pub public: Vec<u8>,
}

impl Child {
    /// Its public area.
    pub fn public(&self) -> Result<Public<'_>> {
        Ok(Public::from_bytes(&self.public)?)
    }
}

/// The bytes of a structure.
pub fn octets(structure: &impl Marshal) -> Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    writer.write(structure)?;
    Ok(writer.into_written().to_vec())
}

/// Plays one scene on a TPM of its own, with nothing that rides along.
pub fn alone(play: fn(&mut Stage<'_>) -> Result<()>) -> Result<()> {
    play(&mut Stage::new(&start(Kind::RsaAndP384)?, Riding::Nothing)?)
}

/// Plays all acts, each with all that can ride along; errors are reported as text.
pub fn play(acts: &[Act]) -> (Vec<Played>, Vec<String>) {
    const TOGETHER: usize = 4;
    let jobs: Vec<(&Act, Riding)> =
        acts.iter().flat_map(|act| RIDINGS.into_iter().map(move |riding| (act, riding))).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(act, riding)) = jobs.get(job) else { return done };
            done.extend(play_act(act, riding, job));
        }
    };
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..TOGETHER).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    let (mut played, mut failures) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(scene) => played.push(scene),
            Err(failure) => failures.push(failure),
        }
    }
    played.sort_by_key(|scene| scene.place);
    (played, failures)
}

fn play_act(act: &Act, riding: Riding, job: usize) -> Vec<Result<Played, String>> {
    let failed = |scene: &str, error: &anyhow::Error| {
        format!("{}, {scene}, {riding:?} rides along: {error:#}", act.name)
    };
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384);
    let swtpm = match swtpm.and_then(|made| made.start_attended()) {
        Ok(swtpm) => swtpm,
        Err(error) => return vec![Err(failed("no TPM", &error))],
    };
    let one = |place: usize, scene: &Scene| -> Result<Played> {
        let mut stage = Stage::new(&swtpm, riding)?;
        let prepared = stage.recording.exchanges().len();
        (scene.play)(&mut stage)?;
        let mut exchanges = stage.recording.exchanges();
        exchanges.drain(..prepared);
        let (act, title, place) = (act.name, scene.title, (job, place));
        let forgeries = stage.forgeries.take().unwrap_or_default();
        Ok(Played { act, title, place, riding, exchanges, forgeries })
    };
    let scenes = act.scenes.iter().enumerate();
    scenes
        .map(|(place, scene)| one(place, scene).map_err(|error| failed(scene.title, &error)))
        .collect()
}
