//! Known vulnerabilities of TPMs, by manufacturer and firmware. Only what the maker itself has published is here; what a version
//! does not tell is not, for example CVE-2023-1017 and -1018 in derivatives of the reference code.

use std::path::Path;

/// A firmware's version: the four numbers of `TPM_PT_FIRMWARE_VERSION_1` and `_2`.
pub(super) type Version = [u16; 4];

/// A vulnerability of some firmware versions.
#[derive(Debug)]
pub(super) struct Advisory {
    /// Its name.
    pub(super) name: &'static str,
    /// What it means for an identity.
    pub(super) meaning: &'static str,
    /// `TPM_PT_MANUFACTURER`.
    manufacturer: &'static str,
    affected: Affected,
}

/// Which versions, by their first two numbers.
#[derive(Debug)]
enum Affected {
    /// Of a line (the first number), those before the second number.
    Before(&'static [(u16, u16)]),
    /// These.
    Exactly(&'static [(u16, u16)]),
    /// The version of Intel's management engine decides: of a line (the first two numbers), those before the third.
    Engine(&'static [(u16, u16, u16)]),
}

static ADVISORIES: [Advisory; 3] = [
    // Infineon, "Information on TPM firmware update", October 2017: fixed in 5.62 and 7.62.
    Advisory {
        name: "CVE-2017-15361 (ROCA)",
        meaning: "private RSA keys it generated can be computed from the public key",
        manufacturer: "IFX",
        affected: Affected::Before(&[(5, 62), (7, 62)]),
    },
    // STMicroelectronics, "Information on ST's TPM firmware update - ECDSA signature generation", November 2019.
    Advisory {
        name: "CVE-2019-16863 (TPM-FAIL)",
        meaning: "the timing of ECDSA signatures reveals the private key",
        manufacturer: "STM",
        affected: Affected::Exactly(&[
            (71, 0),
            (71, 4),
            (71, 12),
            (73, 0),
            (73, 4),
            (73, 5),
            (73, 8),
            (73, 9),
            (74, 0),
            (74, 4),
            (74, 5),
            (74, 8),
            (74, 9),
            (74, 16),
        ]),
    },
    // INTEL-SA-00241, November 2019: its lines for desktops and laptops.
    Advisory {
        name: "CVE-2019-11090 (TPM-FAIL)",
        meaning: "the timing of ECDSA signatures reveals the private key",
        manufacturer: "INTC",
        affected: Affected::Engine(&[(11, 8, 70), (11, 22, 70), (12, 0, 45)]),
    },
];

/// What is known against this firmware. `engine` is the version of Intel's management engine, where there is one.
pub(super) fn against(
    manufacturer: &str,
    version: Version,
    engine: Option<[u16; 3]>,
) -> impl Iterator<Item = &'static Advisory> {
    let [major, minor, ..] = version;
    ADVISORIES.iter().filter(move |advisory| {
        advisory.manufacturer == manufacturer
            && match advisory.affected {
                Affected::Before(fixed) => {
                    fixed.iter().any(|&(line, first)| line == major && minor < first)
                }
                Affected::Exactly(versions) => versions.contains(&(major, minor)),
                Affected::Engine(fixed) => engine.is_some_and(|[major, minor, hotfix]| {
                    fixed.iter().any(|&(line, part, first)| {
                        (line, part) == (major, minor) && hotfix < first
                    })
                }),
            }
    })
}

/// The version of Intel's management engine, in which its firmware TPM runs: PLATFORM:MAJOR.MINOR.HOTFIX.BUILD, a line
/// for each partition, the running one first.
pub(super) fn engine(root: &Path) -> Option<[u16; 3]> {
    let text = std::fs::read_to_string(root.join("sys/class/mei/mei0/fw_ver")).ok()?;
    let (_, version) = text.lines().next()?.split_once(':')?;
    let mut numbers = version.split('.').map(|number| number.trim().parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(maker: &str, version: [u16; 2], engine: Option<[u16; 3]>) -> Vec<&'static str> {
        let [major, minor] = version;
        against(maker, [major, minor, 0, 0], engine).map(|advisory| advisory.name).collect()
    }

    #[test]
    fn the_first_version_with_a_fix_is_not_affected_and_the_last_without_is() {
        let roca = ["CVE-2017-15361 (ROCA)"];
        for (version, affected) in
            [([5, 61], true), ([5, 62], false), ([7, 40], true), ([7, 62], false)]
        {
            assert_eq!(names("IFX", version, None) == roca, affected, "{version:?}");
        }
        // Made after it.
        assert!(names("IFX", [15, 21], None).is_empty());
        assert!(names("NTC", [5, 61], None).is_empty());
        assert_eq!(names("STM", [73, 4], None), ["CVE-2019-16863 (TPM-FAIL)"]);
        assert!(names("STM", [73, 20], None).is_empty());
    }

    #[test]
    fn intels_engine_decides_and_nothing_is_said_without_it() {
        let fail = ["CVE-2019-11090 (TPM-FAIL)"];
        assert_eq!(names("INTC", [11, 5], Some([11, 8, 69])), fail);
        assert!(names("INTC", [11, 5], Some([11, 8, 70])).is_empty());
        assert!(names("INTC", [11, 5], None).is_empty());
        assert!(names("STM", [11, 5], Some([11, 8, 69])).is_empty());
    }

    #[test]
    fn the_engines_version_is_read_as_the_kernel_writes_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("sys/class/mei/mei0");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("fw_ver"), "0:11.8.65.3590\n0:11.8.65.3590\n").unwrap();
        assert_eq!(engine(root.path()), Some([11, 8, 65]));
        for text in ["", "0:", "0:11.8", "11.8.65.3590", "0:a.b.c.d", "0:99999.0.0.0"] {
            std::fs::write(directory.join("fw_ver"), text).unwrap();
            assert_eq!(engine(root.path()), None, "{text:?}");
        }
    }
}
