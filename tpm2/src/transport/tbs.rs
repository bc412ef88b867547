//! The only unsafe code of this crate: three functions of Windows.

use core::ffi::c_void;
use core::ptr::null_mut;
use std::io;

use windows_sys::Win32::System::TpmBaseServices::{
    TBS_COMMAND_LOCALITY_ZERO, TBS_COMMAND_PRIORITY_NORMAL, TBS_CONTEXT_PARAMS2,
    TBS_CONTEXT_PARAMS2_0, TBS_CONTEXT_VERSION_TWO, TBS_SUCCESS, Tbsi_Context_Create,
    Tbsip_Context_Close, Tbsip_Submit_Command,
};

use super::Transport;

/// The TPM of Windows, behind its resource manager, the TPM Base Services. They refuse commands that Windows keeps for itself,
/// and more of them to users who are not administrators.
///
/// It was compiled for `x86_64-pc-windows-gnu`, and has not been run.
#[derive(Debug)]
pub struct Tbs {
    context: *mut c_void,
}

// SAFETY: a context belongs to the process, not to a thread, and each call here has it to itself.
#[expect(unsafe_code, reason = "see above")]
unsafe impl Send for Tbs {}

impl Tbs {
    /// Opens a context for a TPM 2.0.
    ///
    /// # Errors
    /// As Windows says; without a TPM 2.0, `TBS_E_TPM_NOT_FOUND` (0x8028400f).
    #[expect(
        unsafe_code,
        reason = "windows-sys declares the functions of Windows, and nothing more"
    )]
    pub fn open() -> io::Result<Self> {
        /// `includeTpm20`, the third of the bits.
        const INCLUDE_TPM_20: u32 = 1 << 2;
        let parameters = TBS_CONTEXT_PARAMS2 {
            version: TBS_CONTEXT_VERSION_TWO,
            Anonymous: TBS_CONTEXT_PARAMS2_0 { asUINT32: INCLUDE_TPM_20 },
        };
        let mut context = null_mut();
        // SAFETY: both pointers are valid for the call; the version says that the parameters are the longer structure.
        let result =
            unsafe { Tbsi_Context_Create((&raw const parameters).cast(), &raw mut context) };
        done(result).map(|()| Self { context })
    }
}

fn done(result: u32) -> io::Result<()> {
    if result == TBS_SUCCESS {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(result.cast_signed()))
}

impl Transport for Tbs {
    type Error = io::Error;

    #[expect(
        unsafe_code,
        reason = "windows-sys declares the functions of Windows, and nothing more"
    )]
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let sent = u32::try_from(command.len()).map_err(too_long)?;
        let mut received = u32::try_from(response.len()).map_err(too_long)?;
        // SAFETY: the context is open until the drop, and both buffers are as long as is said.
        let result = unsafe {
            Tbsip_Submit_Command(
                self.context,
                TBS_COMMAND_LOCALITY_ZERO,
                TBS_COMMAND_PRIORITY_NORMAL,
                command.as_ptr(),
                sent,
                response.as_mut_ptr(),
                &raw mut received,
            )
        };
        done(result)?;
        usize::try_from(received).map_err(too_long)
    }

    fn is_managed(&self) -> bool {
        true
    }
}

impl Drop for Tbs {
    #[expect(
        unsafe_code,
        reason = "windows-sys declares the functions of Windows, and nothing more"
    )]
    fn drop(&mut self) {
        // SAFETY: the context is open, and nothing uses it afterwards. Windows closes what it cannot close now with the process.
        let _ = unsafe { Tbsip_Context_Close(self.context) };
    }
}
