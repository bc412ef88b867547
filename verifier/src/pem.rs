//! Certificates as text. RFC 7468: one or several CERTIFICATE blocks, explanations between them.
//!
//! The blocks are found here, and only their content is left to `base64ct`. The crate `pem-rfc7468`
//! decodes one block in the strict grammar: it knows neither a bundle nor a block's line, and it
//! refuses what vendors publish and people paste into `ekcert_allowed_cas`: lines that are
//! indented, or of any length but one. The lax grammar of RFC 7468 section 3, which Go reads and
//! with it Teleport, allows these.

use std::fmt;

use base64ct::{Base64, Encoding};

use crate::ca::CaCertificate;
use crate::error::CertificateError;
use crate::x509;

/// The longest text that is read: some hundreds of certificates.
pub const MAX_TEXT: usize = 1024 * 1024;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const LABEL: &str = "CERTIFICATE";

/// The DER of every certificate in the text, at least one.
pub fn certificates(text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    blocks(text)?.into_iter().map(|block| block.der).collect()
}

/// The content of a vendor's bundle: the CA certificates that can be read, and errors for the others.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// In their order.
    pub cas: Vec<CaCertificate>,
    /// In their order.
    pub unreadable: Vec<PemError>,
}

impl Bundle {
    /// Reads the CA certificates in a PEM text.
    ///
    /// # Errors
    /// The text is not a row of CERTIFICATE blocks.
    pub fn read(text: &str) -> Result<Self, PemError> {
        let mut bundle = Self { cas: Vec::new(), unreadable: Vec::new() };
        for block in blocks(text)? {
            match block.ca() {
                Ok(ca) => bundle.cas.push(ca),
                Err(error) => bundle.unreadable.push(error),
            }
        }
        Ok(bundle)
    }
}

impl CaCertificate {
    /// Reads all CA certificates in a PEM text, such as an entry of `ekcert_allowed_cas`: at least one, and no malformed one.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, PemError> {
        blocks(text)?.into_iter().map(Block::ca).collect()
    }
}

/// A block that has its beginning and its end.
struct Block {
    at: PemError,
    der: Result<Vec<u8>, PemError>,
}

impl Block {
    fn ca(self) -> Result<CaCertificate, PemError> {
        let der = self.der?;
        CaCertificate::parse(&der).map_err(|error| PemError {
            subject: x509::subject_text(&der),
            ..self.at.because(PemFault::Certificate(error))
        })
    }
}

fn blocks(text: &str) -> Result<Vec<Block>, PemError> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut at = PemError { block: 1, line: 1, subject: None, fault: PemFault::NoBlock };
    if text.len() > MAX_TEXT {
        return Err(at.because(PemFault::TooLarge));
    }
    for (index, line) in text.lines().enumerate() {
        at.line = index.saturating_add(1);
        let line = line.trim();
        let begin = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(DASHES));
        let end = line.strip_prefix(END).and_then(|rest| rest.strip_suffix(DASHES));
        match (begin, end, &mut open) {
            (Some(LABEL), _, None) => open = Some((at.line, String::new())),
            (Some(label), _, None) => return Err(at.because(PemFault::label(label))),
            (None, Some(LABEL), Some((line, body))) => {
                at.line = *line;
                let der = Base64::decode_vec(body).map_err(|_| at.because(PemFault::Base64));
                blocks.push(Block { at: at.because(PemFault::NoBlock), der });
                at.block = at.block.saturating_add(1);
                open = None;
            }
            (Some(_), _, Some(_)) => return Err(at.because(PemFault::NoEnd)),
            (None, Some(_), _) => return Err(at.because(PemFault::EndMismatch)),
            (None, None, Some((_, body))) => {
                body.extend(line.chars().filter(|c| !c.is_ascii_whitespace()));
            }
            (None, None, None) => {}
        }
    }
    match open {
        Some((line, _)) => Err(PemError { line, ..at }.because(PemFault::NoEnd)),
        None if blocks.is_empty() => Err(at.because(PemFault::NoBlock)),
        None => Ok(blocks),
    }
}

/// Why a text is refused: which block, where it stands, what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemError {
    /// The block, counted from 1.
    pub block: usize,
    /// The line, counted from 1.
    pub line: usize,
    /// The certificate's subject as text, if that part can be read.
    pub subject: Option<String>,
    /// What is wrong.
    pub fault: PemFault,
}

impl PemError {
    fn because(&self, fault: PemFault) -> Self {
        Self { block: self.block, line: self.line, subject: None, fault }
    }
}

/// What can be wrong with a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemFault {
    /// No block in it at all.
    NoBlock,
    /// Longer than [`MAX_TEXT`].
    TooLarge,
    /// A block of another kind.
    Label(String),
    /// A block without its end.
    NoEnd,
    /// An end without its beginning, or of another kind.
    EndMismatch,
    /// A body that is not base64.
    Base64,
    /// A body that is not an acceptable certificate.
    Certificate(CertificateError),
}

impl PemFault {
    fn label(label: &str) -> Self {
        Self::Label(label.chars().take(64).flat_map(char::escape_default).collect())
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, line, subject, fault } = self;
        match (fault, subject) {
            (PemFault::NoBlock, _) => f.write_str("it contains no \"-----BEGIN CERTIFICATE-----\""),
            (PemFault::TooLarge, _) => write!(f, "longer than {MAX_TEXT} bytes"),
            (fault, None) => write!(f, "block {block} at line {line}: {fault}"),
            (fault, Some(subject)) => {
                write!(f, "block {block} at line {line}, \"{subject}\": {fault}")
            }
        }
    }
}

impl fmt::Display for PemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBlock => f.write_str("no block"),
            Self::TooLarge => f.write_str("too large"),
            Self::Label(label) => write!(f, "\"{label}\" instead of \"CERTIFICATE\""),
            Self::NoEnd => f.write_str("no \"-----END CERTIFICATE-----\""),
            Self::EndMismatch => f.write_str("an end that does not belong to a CERTIFICATE block"),
            Self::Base64 => f.write_str("not base64"),
            Self::Certificate(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PemError {}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    fn fault(text: &str) -> (usize, usize, PemFault) {
        let error = certificates(text).unwrap_err();
        (error.block, error.line, error.fault)
    }

    #[test]
    fn several_blocks_with_words_between() {
        let indented = ONE.replace("\n", "\r\n   ");
        let text = format!("Certificate:\n  Data\n{ONE}\n# the next\n{indented}{ONE}");
        assert_eq!(certificates(&text).unwrap(), vec![vec![0x30, 0x00]; 3]);
    }

    #[test]
    fn a_body_in_one_line_or_in_many() {
        let text = "-----BEGIN CERTIFICATE-----\nM\nA A\n=\n-----END CERTIFICATE-----";
        assert_eq!(certificates(text).unwrap(), [[0x30, 0x00]]);
    }

    #[test]
    fn refused_with_block_and_line() {
        assert_eq!(fault(""), (1, 1, PemFault::NoBlock));
        assert_eq!(fault("MAA="), (1, 1, PemFault::NoBlock));
        let key = ONE.replace("CERTIFICATE", "PRIVATE KEY");
        assert_eq!(
            fault(&format!("{ONE}{key}")),
            (2, 4, PemFault::Label("PRIVATE KEY".to_owned()))
        );
        let cut = ONE.replace("-----END CERTIFICATE-----\n", "");
        assert_eq!(fault(&cut), (1, 1, PemFault::NoEnd));
        assert_eq!(fault(&format!("{cut}{ONE}")), (1, 3, PemFault::NoEnd));
        assert_eq!(fault("-----END CERTIFICATE-----"), (1, 1, PemFault::EndMismatch));
        let other = ONE.replace("END CERTIFICATE", "END PUBLIC KEY");
        assert_eq!(fault(&other), (1, 3, PemFault::EndMismatch));
        for body in ["MAA", "M", "MAA=MAA=", "MA\u{e4}=", "Proc-Type: 4", "MAB="] {
            assert_eq!(fault(&ONE.replace("MAA=", body)), (1, 1, PemFault::Base64), "{body}");
        }
        let error = CaCertificate::from_pem(&format!("\n{ONE}")).unwrap_err().to_string();
        assert_eq!(error, "block 1 at line 2: tbsCertificate at offset 2: is missing");
        assert_eq!(fault(&"x".repeat(MAX_TEXT + 1)).2, PemFault::TooLarge);
    }
}
