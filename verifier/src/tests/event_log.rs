//! What logs are believed, laid against tpm2_eventlog and against real boots.

use std::fs;

use tempfile::TempDir;
use tpm2::crypto::HashAlg;
use tpm2::types::Alg;

use super::boot::*;
use super::machine::run;
use crate::event_log::*;
use crate::{PcrValues, QuotedPcrs};

fn measured(recipe: &Recipe) -> MeasuredLog<'_> {
    let log = recipe.parse();
    let quoted = quoted(&log, HashAlg::Sha256);
    log.measured(&quoted, HashAlg::Sha256).unwrap()
}

fn fault(bytes: &[u8]) -> EventLogFault {
    EventLog::parse(bytes).unwrap_err().fault
}

/// The PCRs that tpm2_eventlog computes, by the name of the bank.
fn second_opinion(bytes: &[u8]) -> Vec<(String, u8, String)> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("log"), bytes).unwrap();
    let said = String::from_utf8(run(directory.path(), "tpm2_eventlog log")).unwrap();
    let (_, pcrs) = said.rsplit_once("\npcrs:\n").expect("values of PCRs");
    let mut bank = String::new();
    let mut values = Vec::new();
    for line in pcrs.lines() {
        match line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some((name, "")) => name.clone_into(&mut bank),
            Some((pcr, value)) => values.push((
                bank.clone(),
                pcr.parse().unwrap(),
                value.trim_start_matches("0x").to_lowercase(),
            )),
            None => panic!("{line}"),
        }
    }
    values
}

fn agrees_with_tpm2_eventlog(bytes: &[u8]) -> usize {
    let log = EventLog::parse(bytes).unwrap();
    let mut compared = 0;
    for (bank, pcr, value) in second_opinion(bytes) {
        let hash = match &*bank {
            "sha1" => HashAlg::Sha1,
            "sha256" => HashAlg::Sha256,
            "sha384" => HashAlg::Sha384,
            "sha512" => HashAlg::Sha512,
            other => panic!("{other}"),
        };
        let ours = log.replay(hash).unwrap();
        let ours = ours.values().nth(pcr.into()).unwrap();
        assert_eq!(base16ct::lower::encode_string(ours), value, "{bank}:{pcr}");
        compared += 1;
    }
    compared
}

#[test]
fn both_forms_replay_as_tpm2_eventlog_says() {
    // Without locality, of which this version of the tool knows nothing.
    assert_eq!(agrees_with_tpm2_eventlog(&machine_from(Recipe::agile(BOTH)).bytes), 2 * 6);
    let old = Recipe::sha1()
        .event(0, EventType::S_CRTM_VERSION, b"version")
        .event(4, EventType::ACTION, b"Calling INT 19h")
        .of(5, EventType::IPL_PARTITION_DATA, b"a table", b"partition");
    assert_eq!(agrees_with_tpm2_eventlog(&old.bytes), 3);
    assert_eq!(old.parse().format(), Format::Sha1);
    assert_eq!(old.parse().replay(HashAlg::Sha256), Err(no_digest(0)));
}

/// The launch sets all of them to zero, those too that nothing is extended into.
#[test]
fn a_dynamic_launch_resets_all_of_its_pcrs() {
    let recipe = Recipe::agile(BOTH).event(17, EventType::ACTION, b"launched");
    let recipe = recipe.event(18, EventType::ACTION, b"and measured");
    let bank = recipe.parse().replay(HashAlg::Sha256).unwrap();
    let values: Vec<_> = bank.values().collect();
    let extended = |said: &[u8]| {
        let digest = HashAlg::Sha256.digest(&[said]);
        HashAlg::Sha256.digest(&[&[0; 32], digest.octets()]).octets().to_vec()
    };
    assert_eq!(values[17], extended(b"launched"));
    assert_eq!(values[18], extended(b"and measured"));
    assert!(values[19..=22].iter().all(|value| **value == [0; 32]));
    let before = Recipe::agile(BOTH).event(0, EventType::ACTION, b"started");
    let bank = before.parse().replay(HashAlg::Sha256).unwrap();
    assert!(bank.values().skip(17).take(6).all(|value| *value == [0xff; 32]));
}

fn no_digest(event: usize) -> ReplayError {
    ReplayError::NoDigest { event, hash: HashAlg::Sha256 }
}

#[test]
fn events_of_all_types_are_returned_in_order() {
    let recipe = machine();
    let log = recipe.parse();
    assert_eq!((log.len(), log.startup_locality()), (12, 3));
    let Format::CryptoAgile(banks) = log.format() else { panic!("{:?}", log.format()) };
    assert!(banks.algorithms().eq([Alg::SHA1, Alg::SHA256]));
    let events: Vec<_> = log.events().collect();
    assert_eq!(events.len(), 12);
    assert!(events.iter().enumerate().all(|(number, event)| event.number == number));
    assert_eq!(events[11].kind.to_string(), "event type 0x80001234");
    assert_eq!(events[11].data, b"of an unknown type");
    assert_eq!(events[3].kind.to_string(), "EV_EFI_PLATFORM_FIRMWARE_BLOB");
    assert_eq!(events[3].digests.iter().count(), 2);
    assert_eq!(recipe.bytes[events[3].offset..][..8], [0, 0, 0, 0, 8, 0, 0, 0x80]);
}

#[test]
fn pcr_0_begins_with_the_locality_and_a_dynamic_launch_with_zeros() {
    let empty = Recipe::agile(SHA256);
    let values = |recipe: &Recipe| -> Vec<Vec<u8>> {
        let bank = recipe.parse().replay(HashAlg::Sha256).unwrap();
        bank.values().map(<[u8]>::to_vec).collect()
    };
    let reset = values(&empty);
    assert_eq!(
        (&reset[0], &reset[17], &reset[22]),
        (&vec![0; 32], &vec![0xff; 32], &vec![0xff; 32])
    );
    let third = values(&empty.clone().no_action(0, b"StartupLocality\0\x03"));
    assert_eq!(third[0], [&[0; 31][..], &[3]].concat());
    let launched = values(&empty.clone().event(17, EventType::EVENT_TAG, b"launch"));
    let digest = HashAlg::Sha256.digest(&[b"launch"]);
    assert_eq!(launched[17], HashAlg::Sha256.digest(&[&[0; 32], digest.octets()]).octets());
    // Too late, or in an impossible place, it must have been forged.
    for wrong in [
        empty.clone().event(0, EventType::POST_CODE, b"x").no_action(0, b"StartupLocality\0\x03"),
        empty.clone().no_action(0, b"StartupLocality\0\x03").no_action(0, b"StartupLocality\0\x04"),
        empty.clone().no_action(0, b"StartupLocality\0\x02"),
    ] {
        assert_eq!(fault(&wrong.bytes), EventLogFault::StartupLocality);
    }
}

#[test]
fn padding_after_the_log_is_skipped_and_truncation_is_refused() {
    let bytes = machine().bytes;
    for filling in [0x00, 0xff] {
        for length in [1, 31, 32, 4096] {
            let filled = [&bytes[..], &vec![filling; length]].concat();
            assert_eq!(EventLog::parse(&filled).unwrap().len(), 12, "{length} of {filling:#x}");
        }
    }
    assert!(EventLog::parse(&[&bytes[..], &[0, 0, 1]].concat()).is_err());
    let ends: Vec<usize> = machine().parse().events().map(|event| event.offset).collect();
    for end in 0..bytes.len() {
        match EventLog::parse(&bytes[..end]) {
            Ok(log) => assert!(
                ends.contains(&end) || bytes[ends[log.len()]..end].iter().all(|byte| *byte == 0),
                "{end}"
            ),
            Err(error) => assert!(matches!(error.fault, EventLogFault::Truncated(_)), "{error}"),
        }
    }
    assert!(EventLog::parse(&[]).unwrap().is_empty());
}

#[test]
fn bounds() {
    let with = |banks: &[(u16, u16)]| fault(&header(&spec_id(banks)));
    assert_eq!(with(&[]), EventLogFault::Banks(0));
    let many: Vec<(u16, u16)> = (0x100..0x111).map(|alg| (alg, 32)).collect();
    assert_eq!(with(&many), EventLogFault::Banks(17));
    assert_eq!(EventLog::parse(&header(&spec_id(&many[..16]))).unwrap().len(), 1);
    assert_eq!(with(&[(0x000b, 31)]), EventLogFault::DigestSize(Alg::SHA256, 31));
    assert_eq!(with(&[(0x1234, 0)]), EventLogFault::DigestSize(Alg(0x1234), 0));
    assert_eq!(with(&[(0x1234, 65)]), EventLogFault::DigestSize(Alg(0x1234), 65));
    assert_eq!(with(&[(0x000b, 32), (0x000b, 32)]), EventLogFault::BankTwice(Alg::SHA256));
    // A count that promises more than there is.
    let mut endless = header(&spec_id(&[(0x000b, 32)]));
    endless[32 + 24..32 + 28].fill(0xff);
    assert!(matches!(fault(&endless), EventLogFault::DigestSize(..) | EventLogFault::Truncated(_)));

    let event = |digests: &[(u16, u8)]| {
        let mut bytes = header(&spec_id(&[(0x0004, 20), (0x000b, 32)]));
        bytes.extend([1, 0, 0, 0, 1, 0, 0, 0]);
        bytes.extend((digests.len() as u32).to_le_bytes());
        for (alg, length) in digests {
            bytes.extend(alg.to_le_bytes());
            bytes.extend(vec![7; usize::from(*length)]);
        }
        bytes.extend([0; 4]);
        bytes
    };
    assert_eq!(fault(&event(&[(0x000c, 48)])), EventLogFault::UnknownBank(Alg::SHA384));
    assert_eq!(fault(&event(&[(4, 20), (4, 20)])), EventLogFault::BankTwice(Alg::SHA1));
    let partly = event(&[(4, 20)]);
    let log = EventLog::parse(&partly).unwrap();
    assert!(log.replay(HashAlg::Sha1).is_ok());
    assert_eq!(log.replay(HashAlg::Sha256), Err(no_digest(1)));

    let pcr = Recipe::agile(SHA256).event(24, EventType::IPL, b"x");
    assert_eq!(fault(&pcr.bytes), EventLogFault::Pcr(24));
    assert_eq!(Recipe::agile(SHA256).no_action(u32::MAX, b"x").parse().len(), 2);
    assert_eq!(fault(&vec![0; MAX_LOG + 1]), EventLogFault::TooLarge);
    let one = Recipe::sha1().event(1, EventType::POST_CODE, b"").bytes;
    assert_eq!(EventLog::parse(&one.repeat(MAX_EVENTS)).unwrap().len(), MAX_EVENTS);
    assert_eq!(fault(&one.repeat(MAX_EVENTS + 1)), EventLogFault::TooManyEvents);
    let error = EventLog::parse(&one[..30]).unwrap_err().to_string();
    assert_eq!(error, "event 0 at offset 28: eventSize is cut short");
}

#[test]
fn a_log_holds_only_with_the_quoted_pcrs() {
    let recipe = machine();
    let log = recipe.parse();
    let hash = HashAlg::Sha256;
    let all = quoted(&log, hash);
    assert_eq!(log.clone().measured(&all, hash).unwrap().events().count(), 10);
    let wrong = QuotedPcrs(all.0.clone().with(hash, 4, &[7; 32]).unwrap());
    let differs = ReplayError::Differs { pcr: 4, hash };
    assert_eq!(log.clone().measured(&wrong, hash).unwrap_err(), differs);
    let other = ReplayError::NotQuoted(HashAlg::Sha1);
    assert_eq!(log.clone().measured(&all, HashAlg::Sha1).unwrap_err(), other);
    let none = QuotedPcrs(PcrValues::new());
    assert_eq!(log.clone().measured(&none, hash).unwrap_err(), ReplayError::NotQuoted(hash));

    // Nothing is reported about PCRs that were not quoted.
    let seven = all.0.of(hash, 7).unwrap();
    let seven = QuotedPcrs(PcrValues::new().with(hash, 7, seven).unwrap());
    let measured = log.measured(&seven, hash).unwrap();
    assert_eq!(measured.events().count(), 3);
    assert_eq!(measured.secure_boot(), Ok(SecureBoot::On));
    assert_eq!(measured.crtm_version(), Err(NotShown::NotQuoted(0)));
    assert!(measured.of_pcr(40).is_err());
}

#[test]
fn data_count_only_where_the_digest_covers_them() {
    let recipe = machine();
    let measured = measured(&recipe);
    assert_eq!(measured.crtm_version(), Ok(&b"1\0.\x37\0\0\0"[..]));
    let of = |pcr| measured.of_pcr(pcr).unwrap().collect::<Vec<_>>();
    let [_, blob, separator] = of(0)[..] else { panic!() };
    assert_eq!(blob.covered(), None);
    assert_eq!(blob.digest(), HashAlg::Sha256.digest(&[b"a megabyte of firmware"]).octets());
    assert_eq!(separator.covered().unwrap().separator(), Some(Separator::Ready));
    assert_eq!(of(4)[0].covered(), None);
    assert_eq!(of(8)[0].covered().unwrap().octets(), b"linux /vmlinuz");
    assert_eq!(of(9)[0].covered(), None);
    let variable = of(7)[1].covered().unwrap().variable().unwrap();
    assert_eq!((variable.name().as_str(), variable.data), ("PK", &b"a list"[..]));
    assert_eq!(of(14)[0].claimed().kind, EventType(0x8000_1234));
}

#[test]
fn secure_boot_is_not_decided_by_what_no_digest_covers() {
    let state = |recipe: Recipe| measured(&recipe).secure_boot();
    let start = || Recipe::agile(SHA256);
    let config = EventType::EFI_VARIABLE_DRIVER_CONFIG;
    let (on, off) = (variable("SecureBoot", &[1]), variable("SecureBoot", &[0]));
    let ready = |recipe: Recipe| recipe.event(7, EventType::SEPARATOR, &[0; 4]);
    assert_eq!(state(ready(start().event(7, config, &on))), Ok(SecureBoot::On));
    assert_eq!(state(ready(start().event(7, config, &off))), Ok(SecureBoot::Off));
    // Another type hides nothing and makes nothing of an event.
    for kind in [EventType::EFI_ACTION, EventType::IPL, EventType(0x7777_7777)] {
        assert_eq!(state(ready(start().event(7, kind, &off))), Ok(SecureBoot::Off), "{kind}");
        let early = start().event(7, kind, &[0; 4]).event(7, config, &on);
        assert_eq!(state(ready(early)), Err(NotShown::Absent("SecureBoot")), "{kind}");
    }
    // What is not covered may have been the variable.
    let hidden = start().of(7, config, &off, &on).event(7, config, &on);
    assert_eq!(state(ready(hidden)), Err(NotShown::NotCovered { event: 1 }));
    // Anyone can extend after the separator.
    let late = ready(start().event(7, config, &off)).event(7, config, &on);
    assert_eq!(state(late), Ok(SecureBoot::Off));
    let late = ready(start()).event(7, config, &on);
    assert_eq!(state(late), Err(NotShown::Absent("SecureBoot")));
    assert_eq!(state(start().event(7, config, &on)), Err(NotShown::Absent("separator of PCR 7")));
    let twice = start().event(7, config, &off).event(7, config, &on);
    assert_eq!(state(ready(twice)), Err(NotShown::Contradiction { event: 2 }));
    let neither = start().event(7, config, &variable("SecureBoot", &[1, 0]));
    assert_eq!(state(ready(neither)), Err(NotShown::Contradiction { event: 1 }));
    let failed = start().event(7, config, &on).event(7, EventType::SEPARATOR, &[1, 0, 0, 0]);
    assert_eq!(state(failed), Err(NotShown::Failed { event: 2 }));
    let mut other = on.clone();
    other[0] ^= 1;
    assert_eq!(state(ready(start().event(7, config, &other))), Err(NotShown::Absent("SecureBoot")));
    let unsaid = start().no_action(7, &on);
    assert_eq!(state(ready(unsaid)), Err(NotShown::Absent("SecureBoot")));
}

#[test]
fn empty_secure_boot_variable_is_not_configured() {
    let config = EventType::EFI_VARIABLE_DRIVER_CONFIG;
    let empty = || Recipe::agile(SHA256).event(7, config, &variable("SecureBoot", &[]));
    let ready = empty().event(7, EventType::SEPARATOR, &[0; 4]);
    let state = measured(&ready).secure_boot().unwrap();
    assert_eq!((state, state.to_string().as_str()), (SecureBoot::NotConfigured, "not configured"));
    let twice = empty().event(7, config, &variable("SecureBoot", &[1]));
    let twice = twice.event(7, EventType::SEPARATOR, &[0; 4]);
    assert_eq!(measured(&twice).secure_boot(), Err(NotShown::Contradiction { event: 2 }));
}

#[test]
fn no_change_of_a_byte_changes_what_is_shown() {
    let recipe = machine();
    let hash = HashAlg::Sha256;
    let quoted = quoted(&recipe.parse(), hash);
    let shown = |bytes: &[u8]| {
        let measured = EventLog::parse(bytes).ok()?.measured(&quoted, hash).ok()?;
        let events: Vec<_> = measured
            .events()
            .map(|event| {
                (event.pcr(), event.digest().to_vec(), event.covered().map(|c| c.octets().to_vec()))
            })
            .collect();
        Some((events, measured.secure_boot(), measured.crtm_version().ok().map(<[u8]>::to_vec)))
    };
    let original = shown(&recipe.bytes).unwrap();
    let mut accepted = 0;
    for position in 0..recipe.bytes.len() {
        for flip in [0x01, 0x02, 0x80, 0xff] {
            let mut bytes = recipe.bytes.clone();
            bytes[position] ^= flip;
            let Some((events, secure_boot, version)) = shown(&bytes) else { continue };
            accepted += 1;
            // What is covered may be lost, and is never another.
            assert_eq!(events.len(), original.0.len(), "{position}");
            for (ours, theirs) in events.iter().zip(&original.0) {
                assert_eq!((ours.0, &ours.1), (theirs.0, &theirs.1), "{position}");
                assert!(ours.2.is_none() || ours.2 == theirs.2, "{position}");
            }
            assert!(secure_boot.is_err() || secure_boot == original.1, "{position}");
            assert!(version.is_none() || version == original.2, "{position}");
        }
    }
    assert!(accepted > 100, "types and data that no digest covers: {accepted}");
}

#[test]
fn events_left_out_added_or_exchanged_are_noticed() {
    let recipe = machine();
    let hash = HashAlg::Sha256;
    let quoted = quoted(&recipe.parse(), hash);
    let mut starts: Vec<usize> = recipe.parse().events().map(|event| event.offset).collect();
    starts.push(recipe.bytes.len());
    let pieces: Vec<&[u8]> =
        starts.windows(2).map(|pair| &recipe.bytes[pair[0]..pair[1]]).collect();
    let holds = |pieces: &[&[u8]]| {
        let bytes = pieces.concat();
        EventLog::parse(&bytes).is_ok_and(|log| log.measured(&quoted, hash).is_ok())
    };
    assert!(holds(&pieces));
    for left_out in 0..pieces.len() {
        let mut fewer = pieces.clone();
        fewer.remove(left_out);
        assert!(!holds(&fewer), "without {left_out}");
        let mut more = pieces.clone();
        more.push(pieces[left_out]);
        assert!(left_out <= 1 || !holds(&more), "{left_out} twice");
    }
    let mut exchanged = pieces.clone();
    exchanged.swap(4, 5);
    assert!(!holds(&exchanged));
}

#[test]
fn logs_of_real_boots_lead_to_what_their_tpms_held() {
    for (name, events) in [("seabios", 14), ("ovmf", 25)] {
        let (bytes, mut values) = real(name);
        assert!(agrees_with_tpm2_eventlog(&bytes) >= 3 * 8, "{name}");
        let log = EventLog::parse(&bytes).unwrap();
        assert_eq!(log.len(), events, "{name}");
        for hash in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384] {
            let differs = ReplayError::Differs { pcr: 10, hash };
            let with_ima = QuotedPcrs(values.clone());
            assert_eq!(log.clone().measured(&with_ima, hash).unwrap_err(), differs, "{name}");
            let replayed = log.replay(hash).unwrap();
            let ten = replayed.values().nth(10).unwrap();
            values = values.with(hash, 10, ten).unwrap();
            log.clone().measured(&QuotedPcrs(values.clone()), hash).unwrap();
        }
    }
}

#[test]
fn event_log_of_a_real_machine_is_appraised() {
    let (bytes, values) = real("ovmf");
    let quoted = (0..8).fold(PcrValues::new(), |quoted, pcr| {
        let value = values.of(HashAlg::Sha256, pcr).unwrap();
        quoted.with(HashAlg::Sha256, pcr, value).unwrap()
    });
    let log = EventLog::parse(&bytes).unwrap();
    let measured = log.measured(&QuotedPcrs(quoted), HashAlg::Sha256).unwrap();
    assert_eq!(measured.secure_boot(), Ok(SecureBoot::Off));
    assert_eq!(measured.crtm_version(), Ok(&[0, 0][..]));
    let variables = measured.of_pcr(7).unwrap().filter_map(|event| event.covered()?.variable());
    let names: Vec<String> = variables.map(|variable| variable.name()).collect();
    assert_eq!(names, ["SecureBoot", "PK", "KEK", "db", "dbx"]);
    let actions = measured.of_pcr(5).unwrap().filter_map(|event| event.covered());
    let actions: Vec<&[u8]> = actions.map(Covered::octets).collect();
    assert_eq!(actions.last().unwrap(), b"Exit Boot Services Returned with Success");
    // The kernel: its digest is known, its path only said.
    let image = EventType::EFI_BOOT_SERVICES_APPLICATION;
    let mut images = measured.of_pcr(4).unwrap().filter(|event| event.claimed().kind == image);
    let kernel = images.next().unwrap();
    assert_eq!((kernel.covered(), images.next()), (None, None));

    let (bytes, values) = real("seabios");
    let values =
        values.bank(HashAlg::Sha256).take(8).fold(PcrValues::new(), |quoted, (pcr, value)| {
            quoted.with(HashAlg::Sha256, pcr, value).unwrap()
        });
    let log = EventLog::parse(&bytes).unwrap();
    let measured = log.measured(&QuotedPcrs(values), HashAlg::Sha256).unwrap();
    assert_eq!(measured.secure_boot(), Err(NotShown::Absent("SecureBoot")));
    assert_eq!(measured.crtm_version(), Err(NotShown::Absent("EV_S_CRTM_VERSION")));
}
