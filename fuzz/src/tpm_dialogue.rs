//! Everything that a TPM says while the agent looks for its keys and prepares a join.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use agent::tpm::attester::{Attester, JoinKey, KeysToMake, KnownJoinKey};
use agent::tpm::inventory::{self, EkChoice};
use agent::tpm::passwords::Passwords;
use host::exit::Failure;
use tpm2::Tpm;
use tpm2::commands::by_code;
use tpm2::endorsement::EkKind;
use tpm2::transport::Transport;
use tpm2::types::CommandCode;

use crate::{Verdict, assert_harmless, fixtures, parts};

const UNIQUE: [u8; 32] = [7; 32];

/// The first octet chooses what the agent wants; then come the answers, each behind its 16-bit length.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((what, answers)) = data.split_first() else { return Verdict::Refused };
    let left = Rc::new(RefCell::new(BTreeSet::new()));
    let answers = parts(answers).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
    let mut tpm = Tpm::new(Bus { answers, loaded: Rc::clone(&left) });
    let verdict = want(*what, &mut tpm);
    drop(tpm);
    assert!(left.borrow().is_empty(), "left in the TPM: {:x?}", left.borrow());
    match verdict {
        Ok(()) => Verdict::Accepted,
        Err(failure) => {
            assert_harmless(&failure.message);
            Verdict::Refused
        }
    }
}

fn want(what: u8, tpm: &mut Tpm<Bus>) -> Result<(), Failure> {
    match what % 5 {
        0 => {
            for report in inventory::report_all(tpm, &Passwords::default())? {
                let text = serde_json::to_string(&report).expect("reports are JSON");
                assert_harmless(&text);
            }
        }
        1 => {
            let report = inventory::tpm(tpm)?;
            assert_harmless(&report.manufacturer);
            assert_harmless(&report.vendor);
        }
        2 => {
            let key = JoinKey::load(
                tpm,
                &KnownJoinKey { unique: UNIQUE, public: fixtures::JOIN_KEY.to_vec() },
            )?;
            assert_eq!(key.public(), fixtures::JOIN_KEY);
            key.sign(tpm, &[7; 32])?;
        }
        3 => prepare(tpm, EkChoice::Auto)?,
        _ => prepare(tpm, EkChoice::Kind(EkKind::by_name("p384").expect("a kind")))?,
    }
    Ok(())
}

/// The session's salt is fresh, so that no answer that was made before can be the TPM's.
fn prepare(tpm: &mut Tpm<Bus>, choice: EkChoice) -> Result<(), Failure> {
    let attester =
        Attester::prepare(tpm, choice, None, &Passwords::default(), KeysToMake::only(&UNIQUE))?;
    panic!("a forged TPM was believed: {attester:?}");
}

/// Gives the answers in their order, then failure. What is flushed is gone.
struct Bus {
    answers: std::vec::IntoIter<Vec<u8>>,
    loaded: Rc<RefCell<BTreeSet<[u8; 4]>>>,
}

impl Transport for Bus {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        const FLUSHED: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0];
        const FAILURE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];
        const FLUSH_CONTEXT: u32 = 0x165;
        let code = u32::from_be_bytes(command[6..10].try_into().expect("four octets"));
        let mut answer = FLUSHED.to_vec();
        if code == FLUSH_CONTEXT {
            self.loaded.borrow_mut().remove(&command[10..14]);
        } else {
            let next = self.answers.next().filter(|answer| answer.len() <= response.len());
            answer = next.unwrap_or_else(|| FAILURE.to_vec());
            let info = by_code(CommandCode(code)).expect("the agent sends what it knows");
            if let Some([0, 0, 0, 0, kind @ (0x02 | 0x03 | 0x80), a, b, c]) = answer.get(6..14)
                && info.response.handle.is_some()
            {
                self.loaded.borrow_mut().insert([*kind, *a, *b, *c]);
            }
        }
        response[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }
}
