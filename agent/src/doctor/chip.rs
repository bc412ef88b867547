//! Checks of the properties that the TPM reports, read with two commands.

use std::path::Path;
use std::time::Duration;

use host::exit::{Exit, Failure};
use host::go_duration;
use tpm2::commands::ReadClock;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{HandleKind, PermanentAttributes, Property, StartupClearAttributes};
use tpm2::{Tpm, capability};

use super::{Check, Topic, advisory};
use crate::tpm::failure;
use crate::tpm::passwords::PasswordFiles;

/// Properties of a TPM, as reported by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Properties(Vec<(Property, u32)>);

impl Properties {
    /// Asks for what never changes and for what does.
    pub(super) fn read<T: Transport>(tpm: &mut Tpm<T>) -> Result<Self, Failure> {
        let all = capability::properties(tpm).map_err(failure::command)?;
        Ok(Self(all.iter().map(|found| (found.property, found.value)).collect()))
    }

    fn number(&self, property: Property) -> Option<u32> {
        self.0.iter().find(|(name, _)| *name == property).map(|(_, value)| *value)
    }

    fn count(&self, property: Property) -> u32 {
        self.number(property).unwrap_or_default()
    }

    /// Four characters each.
    fn text(&self, properties: &[Property]) -> String {
        let bytes = properties.iter().flat_map(|property| self.count(*property).to_be_bytes());
        let printable = bytes.filter(|byte| byte.is_ascii_graphic() || *byte == b' ');
        printable.map(char::from).collect::<String>().trim().to_owned()
    }

    fn permanent(&self) -> PermanentAttributes {
        PermanentAttributes(self.count(Property::PERMANENT))
    }

    #[cfg(test)]
    pub(super) fn of(all: &[(Property, u32)]) -> Self {
        Self(all.to_vec())
    }
}

/// It has answered.
pub(super) fn answer(properties: &Properties) -> Check {
    let family = properties.text(&[Property::FAMILY_INDICATOR]);
    let revision = properties.count(Property::REVISION);
    let revision = format!("{}.{:02}", revision / 100, revision % 100);
    Check::ok(Topic::Answer, format!("TPM {family}, library specification revision {revision}"))
}

/// Who made it.
pub(super) fn maker(properties: &Properties) -> Check {
    const WORDS: [Property; 4] = [
        Property::VENDOR_STRING_1,
        Property::VENDOR_STRING_2,
        Property::VENDOR_STRING_3,
        Property::VENDOR_STRING_4,
    ];
    let id = format!("id:{:08x}", properties.count(Property::MANUFACTURER));
    let registered = verifier::TpmModel { manufacturer: Some(id), ..Default::default() };
    let code = properties.text(&[Property::MANUFACTURER]);
    let maker = registered.vendor().map_or_else(|| code.clone(), |name| format!("{name} ({code})"));
    let words = properties.text(&WORDS);
    let soft = if words.starts_with("SW") {
        ": a software TPM, only as secure as the machine that runs it"
    } else {
        ""
    };
    Check::ok(Topic::Maker, format!("{maker}, {words:?}{soft}"))
}

/// Its version, and what is known against it.
pub(super) fn firmware(root: &Path, properties: &Properties) -> Check {
    let [v1, v2] = [Property::FIRMWARE_VERSION_1, Property::FIRMWARE_VERSION_2]
        .map(|property| properties.count(property).to_be_bytes());
    let half = |bytes: [u8; 4], at: usize| {
        let [a, b, c, d] = bytes;
        u16::from_be_bytes(if at == 0 { [a, b] } else { [c, d] })
    };
    let version = [half(v1, 0), half(v1, 1), half(v2, 0), half(v2, 1)];
    let manufacturer = properties.text(&[Property::MANUFACTURER]);
    let known: Vec<_> = advisory::against(&manufacturer, version, advisory::engine(root))
        .map(|advisory| format!("{}: {}", advisory.name, advisory.meaning))
        .collect();
    let version = version.map(|number| number.to_string()).join(".");
    if known.is_empty() {
        return Check::ok(Topic::Firmware, version);
    }
    Check::warn(
        Topic::Firmware,
        format!("{version}, {}", known.join("; ")),
        "install the manufacturer's firmware update; keys generated before it remain weak",
    )
}

/// Whether wrong passwords have locked it, or soon will. Part 1 §19.8.
pub(super) fn lockout(properties: &Properties) -> Check {
    const ADVICE: &str = "find the program that sends wrong passwords, or the cause of power \
                          loss without shutdown; `tpm2_dictionarylockout --clear-lockout` resets \
                          the count";
    let counted = properties.count(Property::LOCKOUT_COUNTER);
    let allowed = properties.count(Property::MAX_AUTH_FAIL);
    let interval = Duration::from_secs(properties.count(Property::LOCKOUT_INTERVAL).into());
    let of = format!("{counted} of {allowed} wrong passwords");
    if properties.permanent().contains(PermanentAttributes::IN_LOCKOUT) {
        let over = counted.saturating_sub(allowed).saturating_add(1);
        let wait = match interval.saturating_mul(over) {
            Duration::ZERO => "the count does not decrease by itself".to_owned(),
            wait => format!("the next attempt is possible in {}", go_duration::text(wait)),
        };
        let finding = format!(
            "locked out, {of}: {wait}; joins still work, as the agent sends no passwords that count"
        );
        return Check::warn(Topic::Lockout, finding, ADVICE);
    }
    let pace = match interval {
        Duration::ZERO => "the count does not decrease".to_owned(),
        interval => format!("the count decreases by one every {}", go_duration::text(interval)),
    };
    let finding = format!("{of}, {pace}");
    if counted.saturating_mul(2) >= allowed {
        return Check::warn(Topic::Lockout, finding, ADVICE);
    }
    Check::ok(Topic::Lockout, finding)
}

/// Whether its hierarchies are there, and have passwords. Part 2 §8.6, §8.7.
pub(super) fn hierarchies(properties: &Properties, files: &PasswordFiles) -> Check {
    let fail = |exit, message: &str, advice: &str| {
        Check::fail(Topic::Hierarchies, Failure::new(exit, message, advice))
    };
    let enabled = properties.number(Property::STARTUP_CLEAR).map(StartupClearAttributes);
    if enabled.is_some_and(|enabled| !enabled.contains(StartupClearAttributes::EH_ENABLE)) {
        return fail(
            Exit::Io,
            "the endorsement hierarchy is disabled, at least until the next reset",
            "enable it in the firmware settings",
        );
    }
    let set = |attribute| properties.permanent().contains(attribute);
    let word = |attribute| if set(attribute) { "set" } else { "not set" };
    if set(PermanentAttributes::ENDORSEMENT_AUTH_SET) && files.endorsement.is_none() {
        return fail(
            Exit::Permission,
            "the endorsement hierarchy has a password, and none was given",
            "give the file that contains it: --endorsement-password-file, or \
             endorsement_password_file in the section tpm of the configuration",
        );
    }
    Check::ok(
        Topic::Hierarchies,
        format!(
            "enabled; passwords: endorsement {}, owner {}, lockout {}",
            word(PermanentAttributes::ENDORSEMENT_AUTH_SET),
            word(PermanentAttributes::OWNER_AUTH_SET),
            word(PermanentAttributes::LOCKOUT_AUTH_SET),
        ),
    )
}

/// How long it has had power. Nothing here relies on its clock.
pub(super) fn clock<T: Transport>(tpm: &mut Tpm<T>) -> Result<Check, Failure> {
    let clock = tpm.run(&ReadClock {}, []).map_err(failure::command)?.current_time;
    let span = |milliseconds: u64| go_duration::text(Duration::from_secs(milliseconds / 1000));
    let cut = if clock.clock_info.safe { "" } else { "; it lost power without a shutdown" };
    let finding = format!(
        "the TPM was powered for {} since it was cleared and for {} since its last reset; it was reset {} times{cut}",
        span(clock.clock_info.clock),
        span(clock.time),
        clock.clock_info.reset_count,
    );
    Ok(Check::ok(Topic::TpmClock, finding))
}

/// Objects left by other programs. Behind a resource manager only the number of free slots is visible.
pub(super) fn handles<T: Transport>(
    tpm: &mut Tpm<T>,
    properties: &Properties,
    through: Through,
) -> Result<Check, Failure> {
    let left = match through {
        Through::Manager => Vec::new(),
        Through::Nothing => {
            let mut loaded = |kind| capability::handles(tpm, kind).map_err(failure::command);
            [loaded(HandleKind::TRANSIENT)?, loaded(HandleKind::HMAC_SESSION)?].concat()
        }
    };
    let room = properties.number(Property::HR_TRANSIENT_AVAIL);
    let slots = properties.number(Property::HR_TRANSIENT_MIN);
    let persistent = properties.count(Property::HR_PERSISTENT);
    let more = properties.count(Property::HR_PERSISTENT_AVAIL);
    let names: Vec<_> = left.iter().map(|handle| format!("{:#010x}", handle.0)).collect();
    let advice = "run `tpm2_flushcontext -t -l -s` or reboot to remove them; with \
                  device:/dev/tpmrm0 the kernel does it";
    let finding = match (room, names.is_empty()) {
        (Some(0), _) => "no free slot for an object: other programs left theirs loaded".to_owned(),
        (_, false) => format!("left loaded by other programs: {}", names.join(" ")),
        (Some(room), _) if slots.is_some_and(|slots| room < slots) => {
            format!("other programs left objects loaded: {room} free slots")
        }
        _ => {
            let finding =
                format!("no leftover objects; {persistent} persistent, {more} free slots");
            return Ok(Check::ok(Topic::Handles, finding));
        }
    };
    Ok(match room {
        Some(0) => Check::fail(Topic::Handles, Failure::new(Exit::Busy, finding, advice)),
        _ => Check::warn(Topic::Handles, finding, advice),
    })
}

/// How the agent reaches the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Through {
    /// A resource manager.
    Manager,
    /// Nothing.
    Nothing,
}

impl Through {
    /// As the kernel names its devices.
    pub(super) fn of(address: &Tcti) -> Self {
        match address {
            Tcti::Device(path) if path.to_string_lossy().contains("/tpmrm") => Self::Manager,
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn lockout_of(permanent: u32, counted: u32, allowed: u32, interval: u32) -> Check {
        lockout(&Properties::of(&[
            (Property::PERMANENT, permanent),
            (Property::LOCKOUT_COUNTER, counted),
            (Property::MAX_AUTH_FAIL, allowed),
            (Property::LOCKOUT_INTERVAL, interval),
        ]))
    }

    #[test]
    fn a_lockout_ends_when_one_try_less_than_allowed_is_counted() {
        let check = lockout_of(1 << 9, 33, 32, 7200);
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(
            check.finding.contains("33 of 32 wrong passwords: the next attempt is possible in 4h")
        );
        let check = lockout_of(1 << 9, 32, 32, 0);
        assert!(
            check.finding.contains("the count does not decrease by itself"),
            "{}",
            check.finding
        );
        assert_eq!(lockout_of(0, 16, 32, 7200).verdict, Verdict::Warn);
        let check = lockout_of(0, 15, 32, 7200);
        assert_eq!((check.verdict, check.advice), (Verdict::Ok, None));
        assert_eq!(check.finding, "15 of 32 wrong passwords, the count decreases by one every 2h");
    }

    #[test]
    fn hierarchies_that_are_off_or_have_an_unknown_password_fail_a_join() {
        let files = PasswordFiles::default();
        let of = |enabled, permanent| {
            let read = [(Property::STARTUP_CLEAR, enabled), (Property::PERMANENT, permanent)];
            hierarchies(&Properties::of(&read), &files)
        };
        assert_eq!(of(0b1111, 0).verdict, Verdict::Ok);
        assert!(of(0b1111, 0b101).finding.contains("endorsement not set, owner set, lockout set"));
        assert_eq!(of(0b1011, 0).exit, Some(Exit::Io));
        assert_eq!(of(0b1111, 0b010).exit, Some(Exit::Permission));
    }

    #[test]
    fn a_firmware_is_read_with_what_is_known_against_it() {
        let root = tempfile::tempdir().unwrap();
        let of = |maker: &[u8; 4], v1| {
            let maker = (Property::MANUFACTURER, u32::from_be_bytes(*maker));
            let read = [
                maker,
                (Property::FIRMWARE_VERSION_1, v1),
                (Property::FIRMWARE_VERSION_2, 0x1_0002),
            ];
            firmware(root.path(), &Properties::of(&read))
        };
        let weak = of(b"IFX\0", 7 << 16 | 40);
        assert_eq!(weak.verdict, Verdict::Warn);
        assert!(weak.finding.starts_with("7.40.1.2, CVE-2017-15361 (ROCA): "), "{}", weak.finding);
        let sound = of(b"IFX\0", 7 << 16 | 85);
        assert_eq!((sound.verdict, sound.finding.as_str()), (Verdict::Ok, "7.85.1.2"));
    }
}
