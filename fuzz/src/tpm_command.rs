//! A command as it lies on the wire, as a TPM or a reader of recordings takes it.

use tpm2::commands::{Command, Visitor, visit};
use tpm2::types::{CommandCode, Structure};
use tpm2::wire::{Malformed, Reader, Why, Writer};

use crate::{Verdict, assert_harmless};

/// The input is the command.
pub(crate) fn run(data: &[u8]) -> Verdict {
    match read(data) {
        Ok(()) => Verdict::Accepted,
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}

fn read(data: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(data);
    let tag: Structure = reader.read("tag")?;
    reader.read::<u32>("size")?;
    let code: CommandCode = reader.read("command code")?;
    let unknown = Malformed::new(Why::Unexpected, 6).named("command code");
    visit(code, Again { tag, rest: reader }).ok_or(unknown)?
}

/// What is read of handles and parameters is written again to the same octets.
struct Again<'a> {
    tag: Structure,
    rest: Reader<'a>,
}

impl Visitor for Again<'_> {
    type Output = Result<(), Malformed>;

    fn visit<C: Command>(mut self) -> Self::Output {
        let handles = self.rest.take(4 * C::INFO.handles.len())?;
        if self.tag == Structure::SESSIONS {
            let size: u32 = self.rest.read("authorization size")?;
            self.rest.take(size as usize)?;
        }
        let parameters = self.rest.take_rest();
        let command = Reader::all(handles, |handles| {
            Reader::all(parameters, |parameters| C::unmarshal(handles, parameters))
        })?;
        let mut octets = vec![0; handles.len() + parameters.len()];
        let mut writer = Writer::new(&mut octets);
        command.marshal_handles(&mut writer).expect("there is as much room");
        command.marshal_parameters(&mut writer).expect("there is as much room");
        assert_eq!(writer.into_written(), [handles, parameters].concat());
        Ok(())
    }
}
