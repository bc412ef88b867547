//! Distinguished names. RFC 5280 §4.1.2.4. They are compared as the bytes they are, never
//! re-encoded: the sets in them are not always sorted, and sorting would part a certificate from
//! its issuer.

use crate::der::{Element, Reader, Result, tag};
use crate::oid;
use crate::text::is_printable;

/// A value longer than this is cut in texts for people.
const MAX_TEXT: usize = 128;

/// One AttributeTypeAndValue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: &'a [u8],
    value: Element<'a>,
}

impl Attribute<'_> {
    /// Its value as text, with everything that could disturb a log line escaped.
    pub(crate) fn text(&self) -> String {
        let content = self.value.content;
        match self.value.tag {
            tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::TELETEX_STRING | tag::IA5_STRING => {
                printable(&String::from_utf8_lossy(content))
            }
            _ => format!("#{}", crate::key::hex(content.get(..MAX_TEXT).unwrap_or(content))),
        }
    }
}

/// All attributes of a Name, in their order. The sets need not be sorted.
pub(crate) fn attributes<'a>(name: &Element<'a>, what: &'static str) -> Result<Vec<Attribute<'a>>> {
    let mut attributes = Vec::new();
    let mut rdns = name.reader();
    while !rdns.is_empty() {
        let mut set = rdns.expect(tag::SET, what)?.reader();
        if set.is_empty() {
            return Err(set.error(what, "has an empty relative name"));
        }
        while !set.is_empty() {
            let mut pair = set.sequence(what)?;
            let kind = pair.expect(tag::OID, what)?.content;
            let value = pair.any(what)?;
            pair.end(what)?;
            attributes.push(Attribute { kind, value });
        }
    }
    Ok(attributes)
}

/// Whether a raw Name has no attributes.
pub(crate) fn is_empty(name: &[u8]) -> bool {
    matches!(name, [] | [tag::SEQUENCE, 0])
}

/// A name for people: `C=DE, O=Infineon Technologies AG, CN=..`.
pub(crate) fn text(name: &[u8]) -> String {
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
