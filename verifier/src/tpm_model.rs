//! The description of a TPM in its EK certificate.

use std::fmt;

/// A TPM as its EK certificate describes it. TCG EK Credential Profile, subjectAltName.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpmModel {
    /// `id:` and eight hexadecimal digits.
    pub manufacturer: Option<String>,
    /// The manufacturer's name of the chip.
    pub model: Option<String>,
    /// The firmware's version, mostly `id:` and hexadecimal digits.
    pub version: Option<String>,
}

impl TpmModel {
    /// The manufacturer by name, of those that are known. TCG TPM Vendor ID Registry.
    #[must_use]
    pub fn vendor(&self) -> Option<&'static str> {
        let id = self.manufacturer.as_deref()?.strip_prefix("id:")?;
        Some(match u32::from_str_radix(id, 16).ok()? {
            0x414d_4400 => "AMD",
            0x4154_4d4c => "Atmel",
            0x474f_4f47 => "Google",
            0x4942_4d00 => "IBM",
            0x4946_5800 => "Infineon",
            0x494e_5443 => "Intel",
            0x4d53_4654 => "Microsoft",
            0x4e53_4d20 => "National Semiconductor",
            0x4e54_4300 => "Nuvoton",
            0x4e54_5a00 => "Nationz",
            0x5354_4d20 => "STMicroelectronics",
            0x0000_1014 => "IBM (software TPM)",
            _ => return None,
        })
    }
}

impl fmt::Display for TpmModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manufacturer = self.vendor().or(self.manufacturer.as_deref());
        let fields = [manufacturer, self.model.as_deref(), self.version.as_deref()];
        let fields: Vec<_> = fields.into_iter().flatten().collect();
        f.write_str(&fields.join(" "))
    }
}
