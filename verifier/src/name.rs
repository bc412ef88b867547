//! Distinguished names. RFC 5280 §4.1.2.4.

use crate::der::{Element, Reader, Result, element, tag};
use crate::oid;
use crate::text::is_printable;

/// Longer values are cut in text.
const MAX_TEXT: usize = 128;

/// A name as it stands in a certificate. Two are equal if RFC 5280 §7.1 says so: relative names in
/// the same order, the attributes of each in any order, and texts of the same characters, whatever
/// their string type, case and amount of white space. Vendors renew a CA with another encoder, and
/// what it issued before has the old form of its name.
///
/// Characters are not brought into Unicode's normal form KC, which RFC 4518 §2.3 asks for: where a
/// composed character meets a decomposed one, names that should be equal are not.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    raw: Vec<u8>,
    /// Equal for equal names: the Name with every text prepared and every set sorted.
    prepared: Vec<u8>,
}

impl Name {
    /// Takes a Name that stands in a certificate. The sets in it need not be sorted.
    pub(crate) fn read(name: &Element<'_>, what: &'static str) -> Result<Self> {
        let mut prepared = Vec::new();
        for set in relative_names(name, what)? {
            let mut attributes: Vec<_> = set.iter().map(Attribute::prepared).collect();
            attributes.sort_unstable();
            prepared.extend(element(tag::SET, &attributes.concat()));
        }
        Ok(Self { raw: name.raw.to_vec(), prepared })
    }

    /// Tag and length included.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether it has no attributes.
    pub(crate) fn is_empty(&self) -> bool {
        self.prepared.is_empty()
    }

    /// The name as text: `C=DE, O=Infineon Technologies AG, CN=..`.
    pub(crate) fn text(&self) -> String {
        text(&self.raw)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.prepared == other.prepared
    }
}

impl Eq for Name {}

/// One AttributeTypeAndValue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: &'a [u8],
    value: Element<'a>,
}

impl Attribute<'_> {
    /// Its value in the form in which equal ones are equal. A value that is no text stays as it is.
    fn prepared(&self) -> Vec<u8> {
        let kind = element(tag::OID, self.kind);
        let value = match characters(&self.value) {
            Some(text) => element(tag::UTF8_STRING, prepare(&text).as_bytes()),
            None => self.value.raw.to_vec(),
        };
        element(tag::SEQUENCE, &[kind, value].concat())
    }

    /// Its value as text, with everything that could disturb a log line escaped.
    pub(crate) fn text(&self) -> String {
        let content = self.value.content;
        match self.value.tag {
            tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::TELETEX_STRING | tag::IA5_STRING => {
                printable(&String::from_utf8_lossy(content))
            }
            _ => format!(
                "#{}",
                base16ct::lower::encode_string(content.get(..MAX_TEXT).unwrap_or(content))
            ),
        }
    }
}

/// All attributes of a Name, in their order.
pub(crate) fn attributes<'a>(name: &Element<'a>, what: &'static str) -> Result<Vec<Attribute<'a>>> {
    Ok(relative_names(name, what)?.concat())
}

fn relative_names<'a>(name: &Element<'a>, what: &'static str) -> Result<Vec<Vec<Attribute<'a>>>> {
    let mut names = Vec::new();
    let mut rdns = name.reader();
    while !rdns.is_empty() {
        let mut set = rdns.expect(tag::SET, what)?.reader();
        if set.is_empty() {
            return Err(set.error(what, "has an empty relative name"));
        }
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut pair = set.sequence(what)?;
            let kind = pair.expect(tag::OID, what)?.content;
            let value = pair.any(what)?;
            pair.end(what)?;
            attributes.push(Attribute { kind, value });
        }
        names.push(attributes);
    }
    Ok(names)
}

/// The characters of a DirectoryString or an IA5String; `None` for anything else. TeletexString is
/// read as Latin-1, which is what is written in it.
fn characters(value: &Element<'_>) -> Option<String> {
    let content = value.content;
    match value.tag {
        tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => {
            std::str::from_utf8(content).ok().map(str::to_owned)
        }
        tag::TELETEX_STRING => Some(content.iter().copied().map(char::from).collect()),
        tag::BMP_STRING => {
            let (units, []) = content.as_chunks::<2>() else { return None };
            char::decode_utf16(units.iter().copied().map(u16::from_be_bytes))
                .collect::<std::result::Result<_, _>>()
                .ok()
        }
        tag::UNIVERSAL_STRING => {
            let (units, []) = content.as_chunks::<4>() else { return None };
            units.iter().copied().map(|unit| char::from_u32(u32::from_be_bytes(unit))).collect()
        }
        _ => None,
    }
}

/// RFC 4518 §2 with the clarifications of RFC 5280 §7.1, but for normalization (NFKC): case folded,
/// one space for any white space and none at the ends, nothing that does not show. The tables of
/// NFKC are larger than this crate, vendors' names are ASCII, and what they would equate is refused.
fn prepare(text: &str) -> String {
    let shown: String = text.chars().filter(|c| c.is_whitespace() || is_printable(*c)).collect();
    let words: Vec<_> = shown.split_whitespace().collect();
    words.join(" ").to_uppercase().to_lowercase()
}

fn text(name: &[u8]) -> String {
    let attributes = Reader::new(name)
        .expect(tag::SEQUENCE, "name")
        .and_then(|element| attributes(&element, "name"))
        .unwrap_or_default();
    if attributes.is_empty() {
        return "(empty name)".to_owned();
    }
    let parts = attributes.iter().map(|attribute| match short(attribute.kind) {
        Some(kind) => format!("{kind}={}", attribute.text()),
        None => format!("{}={}", oid::dotted(attribute.kind), attribute.text()),
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn short(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        oid::COMMON_NAME => "CN",
        oid::SERIAL_NUMBER => "SERIALNUMBER",
        oid::COUNTRY => "C",
        oid::LOCALITY => "L",
        oid::STATE => "ST",
        oid::ORGANIZATION => "O",
        oid::ORGANIZATIONAL_UNIT => "OU",
        _ => return None,
    })
}

fn printable(text: &str) -> String {
    let escape = |c: char| !is_printable(c) || c == '\\' || c == '"';
    text.chars()
        .take(MAX_TEXT)
        .flat_map(|c| {
            let escaped = escape(c).then(|| c.escape_default());
            let plain = (!escape(c)).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::element;

    fn rdn(pairs: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let pairs = pairs.iter().flat_map(|(kind, tag, value)| {
            let pair = [element(tag::OID, kind), element(*tag, value)].concat();
            element(tag::SEQUENCE, &pair)
        });
        element(tag::SET, &pairs.collect::<Vec<_>>())
    }

    #[test]
    fn text_is_harmless() {
        let name = [
            rdn(&[(oid::COUNTRY, tag::PRINTABLE_STRING, b"DE")]),
            rdn(&[
                (oid::COMMON_NAME, tag::UTF8_STRING, "a\n\x1b[31m\"\u{202e}ü".as_bytes()),
                (oid::TPM_MODEL, 0x1e, &[0, 0x41]),
            ]),
        ];
        let name = element(tag::SEQUENCE, &name.concat());
        assert_eq!(text(&name), r#"C=DE, CN=a\n\u{1b}[31m\"\u{202e}ü, 2.23.133.2.2=#0041"#);
        assert_eq!(text(&[0x30, 0]), "(empty name)");
        assert_eq!(text(&[0x31, 0]), "(empty name)");
        let long = rdn(&[(oid::COMMON_NAME, tag::UTF8_STRING, &[b'x'; 1000])]);
        assert_eq!(text(&element(tag::SEQUENCE, &long)).len(), 3 + MAX_TEXT);
    }
}
