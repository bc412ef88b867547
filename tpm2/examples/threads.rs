//! `threads [TCTI]`: one TPM for many threads, by a lock, with a log of what is sent.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::thread;

use tpm2::Tpm;
use tpm2::commands::{Command, GetRandom, frame};
use tpm2::transport::{Log, Tcti, Transport};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(address.parse::<Tcti>()?.open()?)
}

const THREADS: usize = 4;

/// The example, over any transport.
pub fn example<T: Transport + Send>(transport: T) -> Result<(), Box<dyn Error>> {
    let mut sent = Vec::new();
    let log = |command: &[u8], _: Result<&[u8], &T::Error>| sent.push(frame::code(command));
    let tpm = Mutex::new(Tpm::new(Log::new(transport, log)));
    let random = || {
        let mut tpm = tpm.lock().unwrap_or_else(PoisonError::into_inner);
        tpm.run(&GetRandom { bytes_requested: 16 }, []).map(drop)
    };
    let results = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(random)).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for result in results {
        result.map_err(|_| "a thread panicked")??;
    }
    drop(tpm);
    if sent != [Some(GetRandom::INFO.code); THREADS] {
        return Err("other commands were sent".into());
    }
    Ok(())
}
