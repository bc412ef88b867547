use core::fmt;

/// Up to `N` octets by value, for what must outlive the answer that it came in.
#[derive(Clone, Copy)]
pub struct Owned<const N: usize> {
    octets: [u8; N],
    len: usize,
}

/// A [`Name`](super::Name) by value.
pub type NameBuf = Owned<66>;

/// A [`Digest`](super::Digest) by value.
pub type DigestBuf = Owned<64>;

/// A [`Timeout`](super::Timeout) by value.
pub type TimeoutBuf = Owned<8>;

impl<const N: usize> Owned<N> {
    /// No octets.
    pub const EMPTY: Self = Self { octets: [0; N], len: 0 };

    /// A copy of `octets`; `None` if there are more than `N`.
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        Self::concat(&[octets])
    }

    /// A copy of octets of which there are never more than `N`.
    pub(super) fn of(octets: &[u8]) -> Self {
        let mut owned = Self::EMPTY;
        owned.octets.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        owned.len = octets.len().min(N);
        owned
    }

    /// A copy of all the parts in a row; `None` if they are more than `N` octets.
    #[must_use]
    pub fn concat(parts: &[&[u8]]) -> Option<Self> {
        let mut owned = Self::EMPTY;
        for part in parts {
            let end = owned.len.checked_add(part.len())?;
            owned.octets.get_mut(owned.len..end)?.copy_from_slice(part);
            owned.len = end;
        }
        Some(owned)
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }

    /// The octets, to be filled.
    pub fn octets_mut(&mut self) -> &mut [u8] {
        self.octets.get_mut(..self.len).unwrap_or_default()
    }

    /// `len` octets of zero; `None` if that is more than `N`.
    #[must_use]
    pub fn zeroed(len: usize) -> Option<Self> {
        (len <= N).then_some(Self { octets: [0; N], len })
    }

    /// The first `len` octets; all if there are fewer.
    #[must_use]
    pub fn truncated(mut self, len: usize) -> Self {
        self.len = self.len.min(len);
        self
    }
}

impl<const N: usize> AsRef<[u8]> for Owned<N> {
    fn as_ref(&self) -> &[u8] {
        self.octets()
    }
}

impl<const N: usize> PartialEq for Owned<N> {
    fn eq(&self, other: &Self) -> bool {
        self.octets() == other.octets()
    }
}

impl<const N: usize> Eq for Owned<N> {}

impl<const N: usize> fmt::Display for Owned<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Owned<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret of up to `N` octets: never shown, compared in constant time, wiped when dropped.
#[cfg(feature = "crypto")]
#[derive(Clone)]
pub struct Secret<const N: usize>(Owned<N>);

/// A secret as long as a digest at most: an authorization value, a seed, a key.
#[cfg(feature = "crypto")]
pub type SecretBuf = Secret<64>;

/// [`SensitiveData`](super::SensitiveData) by value: what was sealed.
#[cfg(feature = "crypto")]
pub type SensitiveDataBuf = Secret<128>;

#[cfg(feature = "crypto")]
impl<const N: usize> Secret<N> {
    /// A copy of `octets`; `None` if there are more than `N`.
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        Owned::new(octets).map(Self)
    }

    /// `len` octets of zero, to be filled; `None` if that is more than `N`.
    #[must_use]
    pub fn zeroed(len: usize) -> Option<Self> {
        Owned::zeroed(len).map(Self)
    }

    /// The secret. Keep it where it is.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.octets()
    }

    /// The secret, to be filled.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        self.0.octets_mut()
    }
}

#[cfg(feature = "crypto")]
impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.expose(), other.expose()).into()
    }
}

#[cfg(feature = "crypto")]
impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0.octets);
    }
}

#[cfg(feature = "crypto")]
impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
