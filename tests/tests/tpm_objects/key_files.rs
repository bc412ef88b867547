//! Keys as files, ours and those of other programs.

use super::*;
use verifier::JoinKey;

/// OpenSSL with the tpm2 provider, on this TPM.
fn openssl(swtpm: &Swtpm, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments).env("TPM2OPENSSL_TCTI", swtpm.tcti());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl {arguments:?}: {said}");
    Ok(())
}

const PROVIDERS: [&str; 6] =
    ["-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2"];

#[test]
fn openssl_signs_with_a_key_file_of_ours() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    storage_key(&swtpm)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    fs::write(file("message"), b"signed in a TPM")?;
    let owner = KeyParent::P256(Handle::OWNER);
    for (number, parent) in [owner, KeyParent::Persistent(SRK)].into_iter().enumerate() {
        let mut tpm = client(&swtpm)?;
        let primary = primary(&mut tpm, &template::SRK_P256)?;
        let unique = [number as u8; 32];
        let public = JoinKey::template(&unique);
        let Id::Ecc(ecc) = public.id else { panic!("ECC") };
        let scheme = AsymScheme::Null;
        let public = Public { id: Id::Ecc(EccPublic { scheme, ..ecc }), ..public };
        let (empty, auth) = (SensitiveCreate::EMPTY, Auth::EMPTY);
        let made = object::create(&mut tpm, primary.object(), auth, &public, empty)?.0;
        let area = Reader::all(&made.public, |reader| reader.read::<Public<'_>>("public"))?;
        let key = KeyFile::new(FileKind::Loadable, parent, &area, &made.private)?;
        fs::write(file("key.pem"), key.to_pem()?)?;
        let loaded = key.load(&mut tpm, b"")?;
        signs(&mut tpm, &loaded)?;
        drop(tpm);

        let (pem, public, signature) = (file("key.pem"), file("public.pem"), file("signature"));
        let message = file("message");
        let export = ["pkey", "-in", &pem, "-pubout", "-out", &public];
        openssl(&swtpm, &[&export[..], &PROVIDERS].concat())?;
        let digest = ["dgst", "-sha256", "-sign", &pem, "-out", &signature, &message];
        let digest = [&digest[..1], &PROVIDERS, &digest[1..]].concat();
        openssl(&swtpm, &digest)?;
        let verify = ["dgst", "-sha256", "-verify", &public, "-signature", &signature, &message];
        openssl(&swtpm, &verify)?;
        let der = file("public.der");
        openssl(&swtpm, &["pkey", "-pubin", "-in", &public, "-outform", "DER", "-out", &der])?;
        let Id::Ecc(ecc) = area.id else { panic!("ECC") };
        let point = [&[4], ecc.unique.x.octets(), ecc.unique.y.octets()].concat();
        assert!(fs::read(&der)?.ends_with(&point), "it signs with the key of the file");
    }
    Ok(())
}

/// OpenSSL asks for the value of a key whose file says that there is one, and the TPM refuses every other.
#[test]
fn openssl_signs_with_a_key_file_that_has_a_value() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    fs::write(file("message"), b"signed in a TPM")?;
    let mut tpm = client(&swtpm)?;
    let primary = primary(&mut tpm, &template::SRK_P256)?;
    let public = JoinKey::template(&[7; 32]);
    let Id::Ecc(ecc) = public.id else { panic!("ECC") };
    let public = Public { id: Id::Ecc(EccPublic { scheme: AsymScheme::Null, ..ecc }), ..public };
    let value = SensitiveCreate { user_auth: AuthValue::from(b"pin"), ..SensitiveCreate::EMPTY };
    let made = object::create(&mut tpm, primary.object(), Auth::EMPTY, &public, value)?.0;
    drop(tpm);
    let area = Public::from_bytes(&made.public)?;
    let owner = KeyParent::P256(Handle::OWNER);
    let mut key = KeyFile::new(FileKind::Loadable, owner, &area, &made.private)?;
    key.auth = KeyAuth::Value;
    assert_eq!(key.warning(), None);
    let (pem, signature, message) = (file("key.pem"), file("signature"), file("message"));
    let sign = ["pkeyutl", "-sign", "-inkey", &pem, "-out", &signature, "-in", &message];
    let sign = [&sign[..1], &PROVIDERS, &sign[1..], &["-rawin", "-digest", "sha256"]].concat();
    let with = |value: &'static str| openssl(&swtpm, &[&sign[..], &["-passin", value]].concat());
    fs::write(&pem, key.to_pem()?)?;
    with("pass:pin")?;
    with("pass:another").expect_err("another value");

    // What OpenSSL's provider does not know it does not read.
    key.description = Some("a key".into());
    fs::write(&pem, key.to_pem()?)?;
    with("pass:pin").expect_err("a description");
    assert!(key.warning().is_some_and(|warning| warning.contains("description")));
    key.description = None;
    key.policy = vec![PolicyStep { command: CommandCode(0x16b), parameters: vec![] }];
    fs::write(&pem, key.to_pem()?)?;
    with("pass:pin").expect_err("a policy");
    assert!(key.warning().is_some_and(|warning| warning.contains("policy")));
    key.auth_policy = vec![SignedPolicy { name: None, steps: core::mem::take(&mut key.policy) }];
    fs::write(&pem, key.to_pem()?)?;
    with("pass:pin").expect_err("a signed policy");
    assert!(key.warning().is_some_and(|warning| warning.contains("policy")));
    Ok(())
}

#[test]
fn we_load_key_files_of_openssl_and_of_tpm2_encodeobject() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    storage_key(&swtpm)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    let pem = file("openssl.pem");
    let make = ["genpkey", "-algorithm", "EC", "-pkeyopt", "group:P-256", "-out", &pem];
    openssl(&swtpm, &[&make[..], &PROVIDERS].concat())?;
    let (public, private, encoded) = (file("public"), file("private"), file("encoded.pem"));
    let what = ["-C", "0x81000001", "-G", "ecc256", "-u", &public, "-r", &private];
    swtpm.tool("tpm2_create", &what)?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    let what = ["-C", "0x81000001", "-u", &public, "-r", &private, "-o", &encoded];
    swtpm.tool("tpm2_encodeobject", &what)?;

    let mut tpm = client(&swtpm)?;
    for (name, parent) in
        [(pem, KeyParent::P256(Handle::OWNER)), (encoded, KeyParent::Persistent(SRK))]
    {
        let text = fs::read_to_string(&name)?;
        let key = KeyFile::from_pem(&text).with_context(|| text.clone())?;
        assert_eq!((key.kind(), key.parent()), (&FileKind::Loadable, parent), "{name}");
        let loaded = key.load(&mut tpm, b"")?;
        signs(&mut tpm, &loaded)?;
        tpm.flush(loaded.handle())?;
    }
    Ok(())
}

#[test]
fn an_importable_key_file_is_imported_and_loaded() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    for (template, parent) in [
        (&template::SRK_P256, KeyParent::P256(Handle::OWNER)),
        (&template::SRK_RSA2048, KeyParent::Rsa2048(Handle::OWNER)),
    ] {
        let primary = primary(&mut tpm, template)?;
        let outside = Outside::new()?;
        let public = outside.public()?;
        let wrapped = duplicate(&primary.public()?, &public, &outside.sensitive()?)?;
        tpm.flush(primary.handle())?;
        let kind = FileKind::Importable(wrapped.seed().try_into()?);
        let file = KeyFile::new(kind, parent, &public, wrapped.private().octets())?;
        let file = KeyFile::from_pem(&file.to_pem()?)?;
        let loaded = file.load(&mut tpm, b"")?;
        signs(&mut tpm, &loaded)?;
        tpm.flush(loaded.handle())?;
    }
    assert_eq!(swtpm_after(tpm, &swtpm)?, (0, 0));
    Ok(())
}
