//! Part 3 §9 to §11: start and shutdown, tests, sessions.

use anyhow::{Result, ensure};
use tpm2::commands::*;
use tpm2::types::*;
use tpm2::wire::List;

use crate::stage::{Act, Scene, Stage};

pub const ACTS: &[Act] = &[Act {
    name: "start",
    scenes: &[
        Scene { title: "tests what is untested, and everything", play: self_test },
        Scene { title: "tests two algorithms, and says how it went", play: incremental },
        Scene { title: "a session of each kind", play: sessions },
        Scene { title: "the power is about to go, goes, and comes back", play: shutdown },
    ],
}];

fn self_test(stage: &mut Stage<'_>) -> Result<()> {
    for full_test in [false, true] {
        stage.run(&SelfTest { full_test }, [])?;
    }
    Ok(())
}

fn incremental(stage: &mut Stage<'_>) -> Result<()> {
    let to_test = [Alg::SHA256, Alg::AES];
    let answer = stage.run(&IncrementalSelfTest { to_test: List::new(&to_test) }, [])?;
    ensure!(answer.to_do_list.iter().all(|alg| !to_test.contains(&alg)), "{answer:?}");
    let answer = stage.run(&GetTestResult {}, [])?;
    ensure!(answer.test_result == ResponseCode::SUCCESS, "{answer:?}");
    Ok(())
}

fn sessions(stage: &mut Stage<'_>) -> Result<()> {
    for session_type in [SessionType::HMAC, SessionType::POLICY, SessionType::TRIAL] {
        let command = StartAuthSession {
            tpm_key: None,
            bind: None,
            nonce_caller: Nonce::from(&[7; 16]),
            encrypted_salt: EncryptedSecret::EMPTY,
            session_type,
            symmetric: SymDef::Null,
            auth_hash: Alg::SHA256,
        };
        let answer = stage.run(&command, [])?;
        ensure!(answer.nonce_tpm.octets().len() == 16, "{answer:?}");
        let session_handle = answer.session_handle;
        if session_type != SessionType::HMAC {
            stage.run(&PolicyRestart { session_handle }, [])?;
        }
        stage.flush(&session_handle)?;
    }
    Ok(())
}

fn shutdown(stage: &mut Stage<'_>) -> Result<()> {
    stage.run(&Shutdown { shutdown_type: Startup::CLEAR }, [])?;
    stage.reset()?;
    stage.run(&Start { startup_type: Startup::CLEAR }, [])?;
    Ok(())
}
