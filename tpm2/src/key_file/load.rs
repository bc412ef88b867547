//! From a file into the TPM.

use super::{KeyFile, KeyParent, Kind};
use crate::client::Tpm;
use crate::commands::{Command, CreatePrimary, Load};
use crate::error::{Error, Fault};
use crate::object::{Loaded, Wrapped, create_primary, import, load};
use crate::session::Auth;
use crate::template;
use crate::transport::Transport;
use crate::types::{Entity, Handle, Hierarchy, Object, Private, Public, SensitiveCreate};

impl KeyFile {
    /// Loads the key under its parent, and imports it before if that is needed. A parent that is a primary key is created
    /// and flushed again. `auth` is the authorization value of the hierarchy or of the persistent key; it goes over the bus
    /// as it is. Where that must not be, [`import`] and [`load`] take a session in its place.
    ///
    /// # Errors
    /// As [`Tpm::run`].
    pub fn load<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        auth: &[u8],
    ) -> Result<Loaded, Error<T::Error>> {
        let (hierarchy, template) = match self.parent {
            KeyParent::Persistent(handle) => {
                return self.load_under(tpm, Object::unnamed(handle), auth);
            }
            KeyParent::P256(hierarchy) => (hierarchy, &template::SRK_P256),
            KeyParent::Rsa2048(hierarchy) => (hierarchy, &template::SRK_RSA2048),
        };
        let parent = primary(tpm, hierarchy, auth, template)?;
        let loaded = self.load_under(tpm, parent.object(), &[]);
        let flushed = tpm.flush(parent.handle());
        let loaded = loaded?;
        if let Err(error) = flushed {
            // The caller has no handle of the key in that case.
            tpm.flush(loaded.handle())?;
            return Err(error);
        }
        Ok(loaded)
    }

    fn load_under<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        parent: Object,
        auth: &[u8],
    ) -> Result<Loaded, Error<T::Error>> {
        let fail = |fault: Fault| Error::new(Load::INFO.code, fault);
        let public = self.public();
        let private = Private::new(self.private()).map_err(|error| fail(error.into()))?;
        let wrapped = match &self.kind {
            Kind::Loadable | Kind::Sealed => {
                Wrapped::new(&public, private).map_err(|error| fail(error.into()))?
            }
            Kind::Importable(seed) | Kind::ImportableSealed(seed) => {
                import(tpm, parent, Auth::password(auth), &public, private, seed.secret())?
            }
        };
        load(tpm, parent, Auth::password(auth), &wrapped)
    }
}

fn primary<T: Transport>(
    tpm: &mut Tpm<T>,
    hierarchy: Handle,
    auth: &[u8],
    template: &Public<'_>,
) -> Result<Loaded, Error<T::Error>> {
    let hierarchy = Hierarchy::from_handle(hierarchy)
        .map_err(|malformed| Error::new(CreatePrimary::INFO.code, malformed.into()))?;
    let auth = Auth::password(auth);
    create_primary(tpm, hierarchy, auth, template, SensitiveCreate::EMPTY).map(|made| made.0)
}
