//! What is said between the agent and the process that reads executables.

use crate::attest::executable::{Content, Found};
use crate::attest::{Executable, Path, Refused};

/// PATH_MAX: the kernel shows no longer path.
const MAX_PATH: u16 = 4096;

/// Kind, device, inode, kind of the path, whether there is a hash, hash, length of the path; then the path.
const HEAD: usize = 1 + 8 + 8 + 1 + 1 + 32 + 2;

/// The longest answer.
pub(super) const MAX_REPLY: usize = HEAD + MAX_PATH as usize;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) content: Content,
}

impl Request {
    pub(super) const LENGTH: usize = 1;

    pub(super) fn encode(self) -> [u8; Self::LENGTH] {
        match self.content {
            Content::Ignore => [0],
            Content::Hash => [1],
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let content = match bytes {
            [0] => Content::Ignore,
            [1] => Content::Hash,
            _ => return None,
        };
        Some(Self { content })
    }
}

/// The answer, or why there is none.
pub(super) struct Reply;

impl Reply {
    const FOUND: u8 = 0;
    const ENDED: u8 = 1;
    const CHANGED: u8 = 2;
    const NOT_PERMITTED: u8 = 3;
    const UNAVAILABLE: u8 = 4;

    pub(super) fn encode(found: &Result<Found, Refused>) -> Vec<u8> {
        let found = match found {
            Ok(found) => found,
            Err(Refused::Ended) => return vec![Self::ENDED],
            Err(Refused::Changed) => return vec![Self::CHANGED],
            Err(Refused::NotPermitted) => return vec![Self::NOT_PERMITTED],
            Err(_) => return vec![Self::UNAVAILABLE],
        };
        let Executable { path, sha256 } = &found.executable;
        let (kind, path) = match path {
            Some(Path::OfHost(path)) => (1, path.as_str()),
            Some(Path::OfNamespace(path)) => (2, path.as_str()),
            None => (0, ""),
        };
        let length = u16::try_from(path.len()).ok().filter(|length| *length <= MAX_PATH);
        let (kind, path, length) = length.map_or((0, "", 0), |length| (kind, path, length));
        let mut bytes = vec![Self::FOUND];
        bytes.extend(found.device.to_be_bytes());
        bytes.extend(found.inode.to_be_bytes());
        bytes.extend([kind, u8::from(sha256.is_some())]);
        bytes.extend(sha256.unwrap_or_default());
        bytes.extend(length.to_be_bytes());
        bytes.extend(path.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Found, Refused> {
        const MALFORMED: Refused = Refused::Malformed("answer about an executable");
        match bytes {
            // The process has ended, or had too much to do.
            [] | [Self::UNAVAILABLE] => Err(Refused::ReaderUnavailable),
            [Self::ENDED] => Err(Refused::Ended),
            [Self::CHANGED] => Err(Refused::Changed),
            [Self::NOT_PERMITTED] => Err(Refused::NotPermitted),
            [Self::FOUND, rest @ ..] if bytes.len() <= MAX_REPLY => {
                Self::decode_found(rest).ok_or(MALFORMED)
            }
            // Cut off, too long, or of no kind that there is.
            _ => Err(MALFORMED),
        }
    }

    fn decode_found(bytes: &[u8]) -> Option<Found> {
        let (device, bytes) = bytes.split_first_chunk()?;
        let (inode, bytes) = bytes.split_first_chunk()?;
        let ([kind, has_hash], bytes) = bytes.split_first_chunk()?;
        let (hash, bytes) = bytes.split_first_chunk::<32>()?;
        let (length, path) = bytes.split_first_chunk()?;
        let sha256 = match has_hash {
            0 if *hash == [0; 32] => None,
            1 => Some(*hash),
            _ => return None,
        };
        if usize::from(u16::from_be_bytes(*length)) != path.len() {
            return None;
        }
        let text = || {
            let text = str::from_utf8(path).ok().filter(|text| text.starts_with('/'))?;
            Some(text.to_owned())
        };
        let path = match kind {
            0 if path.is_empty() => None,
            1 => Some(Path::OfHost(text()?)),
            2 => Some(Path::OfNamespace(text()?)),
            _ => return None,
        };
        let (device, inode) = (u64::from_be_bytes(*device), u64::from_be_bytes(*inode));
        Some(Found { device, inode, executable: Executable { path, sha256 } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: Option<Path>, sha256: Option<[u8; 32]>) -> Found {
        Found { device: 7, inode: u64::MAX, executable: Executable { path, sha256 } }
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        let longest = format!("/{}", "x".repeat(usize::from(MAX_PATH) - 1));
        for found in [
            found(None, None),
            found(Some(Path::OfHost("/bin/é".into())), Some([7; 32])),
            found(Some(Path::OfNamespace("/".into())), None),
            found(Some(Path::OfHost(longest.clone())), Some([0; 32])),
        ] {
            let bytes = Reply::encode(&Ok(found.clone()));
            assert_eq!(Reply::decode(&bytes).unwrap(), found);
            for length in 0..bytes.len() {
                assert!(Reply::decode(&bytes[..length]).is_err());
            }
        }
        let longer = Reply::encode(&Ok(found(Some(Path::OfHost(longest + "x")), None)));
        assert_eq!(Reply::decode(&longer).unwrap(), found(None, None));
        for refused in [Refused::Ended, Refused::Changed, Refused::NotPermitted] {
            let said = refused.to_string();
            let bytes = Reply::encode(&Err(refused));
            assert_eq!(Reply::decode(&bytes).unwrap_err().to_string(), said);
        }
        for content in [Content::Ignore, Content::Hash] {
            assert_eq!(Request::decode(&Request { content }.encode()), Some(Request { content }));
        }
    }

    #[test]
    fn other_packets_are_refused() {
        for packet in [&[][..], &[2], &[0, 0], &[1, 0]] {
            assert_eq!(Request::decode(packet), None, "{packet:?}");
        }
        let right = Reply::encode(&Ok(found(Some(Path::OfHost("/a".into())), None)));
        let with = |at: usize, byte: u8| {
            let mut wrong = right.clone();
            wrong[at] = byte;
            wrong
        };
        let too_long = [right.clone(), vec![b'x'; MAX_PATH.into()]].concat();
        for packet in [
            with(0, 5),
            with(0, 1),
            with(17, 0),
            with(17, 3),
            with(18, 2),
            with(19, 1),
            with(HEAD - 1, 1),
            with(HEAD - 1, 3),
            with(HEAD, b'a'),
            with(HEAD + 1, 0xff),
            too_long,
            vec![1, 0],
        ] {
            assert!(matches!(Reply::decode(&packet), Err(Refused::Malformed(_))), "{packet:?}");
        }
        assert!(matches!(Reply::decode(&[]), Err(Refused::ReaderUnavailable)));
    }
}
