//! Every target on all its seeds, on what once failed, and on changes of both that are the same in every run.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use fuzz::{Input, Mutator, TARGETS, Target, Verdict};

/// Seeds that begin so are real messages that are rightly refused.
const REFUSED: &str = "refused-";

#[test]
fn seeds_are_read_and_regressions_are_mended() {
    for target in &TARGETS {
        let seeds = target.seeds().unwrap();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for Input { path, bytes } in &seeds {
            let name = path.file_name().unwrap().to_string_lossy();
            let expected =
                if name.starts_with(REFUSED) { Verdict::Refused } else { Verdict::Accepted };
            assert_eq!((target.run)(bytes), expected, "{}", path.display());
        }
        for Input { path, bytes } in target.regressions().unwrap() {
            let went_well = catch_unwind(|| (target.run)(&bytes)).is_ok();
            assert!(went_well, "{} is back", path.display());
        }
    }
}

/// So that no file stands where nothing runs it.
#[test]
fn directories_belong_to_targets() {
    for kind in ["seeds", "regressions"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind);
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries {
            let name = entry.unwrap().file_name();
            let known = name == "README.md" || Target::by_name(&name.to_string_lossy()).is_some();
            assert!(known, "{kind}/{} has no target", name.display());
        }
    }
}

fn change(target: &Target) {
    let mut inputs = target.seeds().unwrap();
    inputs.extend(target.regressions().unwrap());
    let mut mutator = Mutator::new(1);
    for round in 0..target.smoke as usize {
        let input = &inputs[round % inputs.len()];
        let other = &inputs[(round / inputs.len()) % inputs.len()];
        let changed = mutator.change(&input.bytes, &other.bytes);
        if catch_unwind(|| (target.run)(&changed)).is_err() {
            let kept =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.failed", target.name));
            fs::write(&kept, &changed).unwrap();
            panic!(
                "{} fails on a change of {}; the input is in {}: put it into regressions/{}",
                target.name,
                input.path.display(),
                kept.display(),
                target.name,
            );
        }
    }
}

macro_rules! changes {
    ($($name:ident)*) => {
        mod changes {
            $(
                #[test]
                fn $name() {
                    super::change(fuzz::Target::by_name(stringify!($name)).unwrap());
                }
            )*

            #[test]
            fn none_is_left_out() {
                assert_eq!(fuzz::TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
            }
        }
    };
}

changes! {
    tpm_response tpm_dialogue tpm_public tpm_command tpm_attest tpm_signature tpm_credential key_file event_log ek_certificate ek_spki ek_chain
    join_request teleport_join teleport_legacy_join teleport_call subject_key prove_key web_request join_result teleport_result
    teleport_answer identity ca_bundle connection_upgrade resource jwt_claims control_groups workload_connection workload_call
    sds_stream ssh_agent jwt_svid address command_line join_uri
}
