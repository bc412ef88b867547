//! Part 3 §12 and §13: objects, and their way from one parent to another.

use anyhow::{Result, ensure};
use tests::tpm::{activate, persistent_ek, policy_secret};
use tpm2::commands::*;
use tpm2::crypto::object_name;
use tpm2::types::*;
use tpm2::wire::Tpm2b;

use crate::props;
use crate::stage::{Act, Child, EMPTY, Scene, Stage, octets, password};

pub const ACTS: &[Act] = &[Act {
    name: "objects",
    scenes: &[
        Scene { title: "data sealed under a parent, loaded and read", play: seal },
        Scene { title: "sealed data get another authorization value", play: change_auth },
        Scene { title: "objects created and loaded at once", play: create_loaded },
        Scene { title: "a public key and a key pair loaded from outside", play: load_external },
        Scene { title: "a credential made by the TPM and opened by it", play: credential },
        Scene { title: "an object on its way from one parent to another", play: duplicate },
    ],
}];

fn seal(stage: &mut Stage<'_>) -> Result<()> {
    let parent = stage.key(props::parent())?;
    let public = props::keyed_hash(props::SEALED, KeyedHashScheme::Null);
    let child = stage.child(parent, public, props::secret(b"sealed data")?)?;
    let object = stage.load(parent, &child)?;
    let answer = stage.run(&ReadPublic { object_handle: object }, [])?;
    ensure!(octets(&answer.out_public.0)? == child.public, "another public area");
    let answer = stage.run(&Unseal { item_handle: object }, [EMPTY])?;
    ensure!(answer.out_data.octets() == b"sealed data", "other data");
    Ok(())
}

fn change_auth(stage: &mut Stage<'_>) -> Result<()> {
    let parent = stage.key(props::parent())?;
    let public = props::keyed_hash(props::SEALED, KeyedHashScheme::Null);
    let child = stage.child(parent, public, props::secret(b"sealed data")?)?;
    let object = stage.load(parent, &child)?;
    let command = ObjectChangeAuth {
        object_handle: object,
        parent_handle: parent,
        new_auth: AuthValue::from(b"another value"),
    };
    let private = stage.run(&command, [EMPTY])?.out_private.octets().to_vec();
    stage.flush(&object)?;
    let object = stage.load(parent, &Child { private, ..child })?;
    let answer = stage.run(&Unseal { item_handle: object }, [password(b"another value")])?;
    ensure!(answer.out_data.octets() == b"sealed data", "other data");
    Ok(())
}

fn create_loaded(stage: &mut Stage<'_>) -> Result<()> {
    let parent = stage.key(props::parent())?;
    for parent_handle in [Parent::Object(parent), Parent::Hierarchy(Hierarchy::Owner)] {
        let template = octets(&props::signer())?;
        let command = CreateLoaded {
            parent_handle,
            in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
            in_public: Template::new(&template)?,
        };
        let answer = stage.run(&command, [EMPTY])?;
        let name = object_name(&answer.out_public.0)?;
        ensure!(answer.name.octets() == name.octets(), "another Name");
        let object = answer.object_handle.named(name);
        stage.run(&ReadPublic { object_handle: object }, [])?;
    }
    Ok(())
}

fn load_external(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.primary(props::signer(), SensitiveCreate::EMPTY)?;
    let public = <Public<'_> as tpm2::wire::Unmarshal<'_>>::from_bytes(&key.public)?;
    let command =
        LoadExternal { in_private: None, in_public: Tpm2b(public), hierarchy: Hierarchy::Owner };
    let answer = stage.run(&command, [])?;
    ensure!(Some(answer.name.octets()) == key.object.name().as_ref().map(NameBuf::octets));
    let copy = answer.object_handle.handle();
    stage.flush(&copy)?;
    let rsa = props::load_rsa(stage)?;
    stage.run(&ReadPublic { object_handle: rsa }, [])?;
    Ok(())
}

fn credential(stage: &mut Stage<'_>) -> Result<()> {
    let ek = persistent_ek(stage.bare(), "rsa2048")?;
    let handle = ek.salt_key()?.object();
    let key = stage.key(props::signer())?;
    let name = key.name().expect("a primary object has a Name");
    let command = MakeCredential {
        handle,
        credential: Digest::from(&[0x5a; 32]),
        object_name: Name::new(name.octets())?,
    };
    let answer = stage.run(&command, [])?;
    let blob = answer.credential_blob.octets().to_vec();
    let secret = answer.secret.octets().to_vec();
    let mut policy = stage.policy()?;
    stage.run(&policy_secret(policy.handle()), [EMPTY])?;
    let command = ActivateCredential {
        activate_handle: key,
        key_handle: handle,
        credential_blob: IdObject::new(&blob)?,
        secret: EncryptedSecret::new(&secret)?,
    };
    let answer = stage.run(&command, [EMPTY, policy.auth(b"").into()])?;
    ensure!(answer.cert_info.octets() == [0x5a; 32], "another secret");

    let ours = tpm2::crypto::make_credential(&ek.public()?, &name, &[0xa5; 32])?;
    stage.run(&policy_secret(policy.handle()), [EMPTY])?;
    let answer = stage.run(&activate(key, handle, &ours), [EMPTY, policy.auth(b"").into()])?;
    ensure!(answer.cert_info.octets() == [0xa5; 32], "another secret");
    Ok(())
}

fn duplicate(stage: &mut Stage<'_>) -> Result<()> {
    let code = <Duplicate<'_> as Command>::INFO.code;
    let policy_digest = stage.trial(|stage, policy_session| {
        stage.run(&PolicyCommandCode { policy_session, code }, [])?;
        Ok(())
    })?;
    let here = stage.key(props::parent())?;
    let there = stage.key(props::other_parent())?;
    let mobile = Public {
        attributes: ObjectAttributes::USER_WITH_AUTH,
        auth_policy: Digest::new(&policy_digest)?,
        ..props::keyed_hash(ObjectAttributes::NONE, KeyedHashScheme::Null)
    };
    let child = stage.child(here, mobile, props::secret(b"sealed data")?)?;
    let object = stage.load(here, &child)?;
    let mut policy = stage.policy()?;
    stage.run(&PolicyCommandCode { policy_session: policy.handle(), code }, [])?;
    let command = Duplicate::to(there, object);
    let answer = stage.run(&command, [policy.auth(b"").into()])?;
    ensure!(answer.encryption_key_out.octets().is_empty(), "an inner key that was not requested");
    let (copy, seed) = (answer.duplicate.octets().to_vec(), answer.out_sym_seed.octets().to_vec());
    stage.flush(&object)?;

    let name = object.name().expect("a loaded object has a Name");
    let command = Rewrap {
        old_parent: Some(there),
        new_parent: Some(here),
        in_duplicate: Private::new(&copy)?,
        name: Name::new(name.octets())?,
        in_sym_seed: EncryptedSecret::new(&seed)?,
    };
    let answer = stage.run(&command, [EMPTY])?;
    let copy = answer.out_duplicate.octets().to_vec();
    let seed = answer.out_sym_seed.octets().to_vec();
    let command = Import {
        parent_handle: here,
        encryption_key: Data::EMPTY,
        object_public: Tpm2b(child.public()?),
        duplicate: Private::new(&copy)?,
        in_sym_seed: EncryptedSecret::new(&seed)?,
        symmetric_alg: SymDefObject::Null,
    };
    let private = stage.run(&command, [EMPTY])?.out_private.octets().to_vec();
    let object = stage.load(here, &Child { private, public: child.public.clone() })?;
    let answer = stage.run(&Unseal { item_handle: object }, [EMPTY])?;
    ensure!(answer.out_data.octets() == b"sealed data", "other data");
    Ok(())
}
