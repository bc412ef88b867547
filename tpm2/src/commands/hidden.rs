//! What `Debug` and annotations do not show: secrets, and a first parameter that a session has encrypted. A command or an answer
//! with such a parameter cannot be read as a whole, so it is shown field by field.

use core::fmt;

use crate::wire::{Malformed, Reader, Unmarshal};

/// The fields so far.
pub(crate) struct Fields<'f, 'b> {
    shown: fmt::DebugStruct<'f, 'b>,
    next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The first parameter.
    Encrypted,
    /// One that is in the clear.
    Clear,
    /// Nothing: where a field begins is not known behind a malformed one.
    Unknown,
}

impl<'f, 'b> Fields<'f, 'b> {
    /// No field yet of the structure `name`.
    pub(crate) fn new(f: &'f mut fmt::Formatter<'b>, name: &str) -> Self {
        Self { shown: f.debug_struct(name), next: Next::Encrypted }
    }

    /// Shows a handle, or what is wrong with it.
    pub(crate) fn handle(&mut self, name: &str, handle: Result<impl fmt::Debug, Malformed>) {
        match handle {
            Ok(handle) => self.show(name, &handle),
            Err(malformed) => self.malformed(name, malformed),
        }
    }

    /// Shows a field.
    pub(crate) fn show(&mut self, name: &str, value: &dyn fmt::Debug) {
        self.shown.field(name, value);
    }

    /// Reads the next parameter, of the type of the field that `of` gives, if it can be read.
    pub(crate) fn parameter<'r, S, T: Unmarshal<'r>>(
        &mut self,
        reader: &mut Reader<'r>,
        name: &'static str,
        _of: fn(&S) -> &T,
    ) -> Option<T> {
        match self.next {
            Next::Encrypted => {
                self.next = Next::Clear;
                let size = reader.read(name).and_then(|size: u16| reader.take(size.into()));
                match size {
                    Ok(octets) => {
                        self.show(name, &format_args!("encrypted, {} octets", octets.len()));
                    }
                    Err(malformed) => self.malformed(name, malformed),
                }
                None
            }
            Next::Clear => match reader.read(name) {
                Ok(value) => Some(value),
                Err(malformed) => {
                    self.malformed(name, malformed);
                    None
                }
            },
            Next::Unknown => None,
        }
    }

    fn malformed(&mut self, name: &str, malformed: Malformed) {
        self.next = Next::Unknown;
        self.show(name, &format_args!("malformed: {malformed}"));
    }

    /// The end of the parameters.
    pub(crate) fn finish(&mut self, reader: &Reader<'_>) -> fmt::Result {
        if self.next == Next::Unknown || reader.finish().is_ok() {
            return self.shown.finish();
        }
        self.shown.field("malformed", &format_args!("{} more octets", reader.peek().len())).finish()
    }
}

/// Stands for a secret.
pub(crate) struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// What is shown of a secret.
pub(crate) const fn hidden<T>(_secret: &T) -> &'static Hidden {
    &Hidden
}
