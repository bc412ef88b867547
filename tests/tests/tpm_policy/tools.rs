//! The same policies by tpm2-tools.

use base16ct::lower::encode_string as hex;

use super::*;

/// tpm2-tools on a TPM of its own, in a trial session.
struct Tools {
    swtpm: Swtpm,
    scratch: Scratch,
}

impl Tools {
    fn new() -> Result<Self> {
        Ok(Self { swtpm: start_tcp(Kind::RsaAndP384)?, scratch: Scratch::new("endorse-policy")? })
    }

    fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    fn file(&self, name: &str, octets: &[u8]) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, octets)?;
        Ok(path)
    }

    /// The digest after this tool was run in a new trial session.
    fn policy(&self, tool: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        self.policies(&[(tool, arguments)])
    }

    fn policies(&self, tools: &[(&str, &[&str])]) -> Result<Vec<u8>> {
        let (session, digest) = (self.path("session.ctx"), self.path("policy.digest"));
        self.swtpm.tool("tpm2_startauthsession", &["-g", "sha256", "-S", &session])?;
        for (tool, arguments) in tools {
            let common = ["-S", &session, "-L", &digest];
            self.swtpm.tool(tool, &[&common[..], arguments].concat())?;
        }
        self.swtpm.tool("tpm2_flushcontext", &[&session])?;
        let digest = fs::read(digest)?;
        ensure!(digest.len() == 32, "no digest of SHA-256");
        Ok(digest)
    }
}

fn new() -> PolicyDigest {
    PolicyDigest::new(HashAlg::Sha256)
}

#[test]
fn tpm2_tools_make_the_same_policies_of_uses_and_states() -> Result<()> {
    let tools = Tools::new()?;
    let values: Vec<u8> = octets(64);
    let file = tools.file("pcrs", &values)?;
    let pcrs = [PcrSelection::new(Alg::SHA256, &[0x81, 0, 0])?];
    let ours = new().pcr_values(&List::new(&pcrs), &[&values[..32], &values[32..]])?;
    assert_eq!(tools.policy("tpm2_policypcr", &["-l", "sha256:0,7", "-f", &file])?, ours.octets());

    let code = ActivateCredential::INFO.code;
    let theirs = tools.policy("tpm2_policycommandcode", &["TPM2_CC_ActivateCredential"])?;
    assert_eq!(theirs, new().command_code(code).octets());
    let theirs = tools.policy("tpm2_policylocality", &["three"])?;
    assert_eq!(theirs, new().locality(Locality::THREE).octets());
    let (value, password) = (("tpm2_policyauthvalue", &[][..]), ("tpm2_policypassword", &[][..]));
    let theirs = tools.policies(&[value, password])?;
    assert_eq!(theirs, new().auth_value().password().octets());
    assert_eq!(tools.policy("tpm2_policynvwritten", &["s"])?, new().nv_written().octets());
    assert_eq!(tools.policy("tpm2_policynvwritten", &["c"])?, new().nv_not_written().octets());

    let digest = digest_buf(HashAlg::Sha256);
    let file = tools.file("sized", &[&[0, 32], digest.octets()].concat())?;
    let theirs = tools.policy("tpm2_policycphash", &["--cphash", &file])?;
    assert_eq!(theirs, new().cp_hash(&digest).octets());
    let file = tools.file("digest", digest.octets())?;
    let theirs = tools.policy("tpm2_policynamehash", &["-n", &file])?;
    assert_eq!(theirs, new().name_hash(&digest).octets());
    let theirs = tools.policy("tpm2_policytemplate", &["--template-hash", &file])?;
    assert_eq!(theirs, new().template(&digest).octets());

    let theirs = tools.policy("tpm2_policycountertimer", &["--ult", "clock=4660"])?;
    let ours = new().counter_timer(&4660_u64.to_be_bytes(), 8, Comparison::UNSIGNED_LT);
    assert_eq!(theirs, ours.octets());

    let (object, parent) = (name_buf(), name_buf());
    let files = (tools.file("object", object.octets())?, tools.file("parent", parent.octets())?);
    let theirs = tools.policy("tpm2_policyduplicationselect", &["-N", &files.1])?;
    assert_eq!(theirs, new().duplication_select(None, &parent).octets());
    let arguments = ["-N", &files.1, "-n", &files.0, "--include-object"];
    let theirs = tools.policy("tpm2_policyduplicationselect", &arguments)?;
    assert_eq!(theirs, new().duplication_select(Some(&object), &parent).octets());
    Ok(())
}

#[test]
fn tpm2_tools_make_the_same_policies_of_authorities() -> Result<()> {
    let tools = Tools::new()?;
    let endorsement = Handle::ENDORSEMENT.as_name();
    let reference = octets(20);
    let secret = tools.policy("tpm2_policysecret", &["-c", "e", "-q", &hex(&reference)])?;
    assert_eq!(secret, new().secret(&endorsement, &reference).octets());
    let plain = tools.policy("tpm2_policysecret", &["-c", "e"])?;
    assert_eq!(plain, new().secret(&endorsement, b"").octets());
    let list = format!("sha256:{},{}", tools.file("a", &plain)?, tools.file("b", &secret)?);
    let branches = [PolicyDigest::known(HashAlg::Sha256, &secret)?];
    let ours = PolicyDigest::known(HashAlg::Sha256, &plain)?.or(&branches)?;
    assert_eq!(tools.policy("tpm2_policyor", &["-l", &list])?, ours.octets());

    // A key and its Name by tpm2-tools.
    let (key, name) = (tools.path("key.ctx"), tools.path("key.name"));
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    let arguments = ["-C", "o", "-G", "ecc:ecdsa", "-a", attributes, "-c", &key];
    tools.swtpm.tool("tpm2_createprimary", &arguments)?;
    tools.swtpm.tool("tpm2_readpublic", &["-c", &key, "-n", &name])?;
    tools.swtpm.tool("tpm2_flushcontext", &["-t"])?;
    let key_name = NameBuf::new(&fs::read(&name)?).context("a Name")?;
    let approved = tools.file("approved", &plain)?;
    let qualification = tools.file("reference", &reference)?;
    let arguments = ["-i", &approved, "-q", &qualification, "-n", &name];
    let theirs = tools.policy("tpm2_policyauthorize", &arguments)?;
    assert_eq!(theirs, new().authorize(&key_name, &reference).octets());

    let (message, signature) = (tools.path("message"), tools.path("signature"));
    fs::write(&message, [0; 4])?;
    let arguments = ["-c", &key, "-g", "sha256", "-o", &signature, &message];
    tools.swtpm.tool("tpm2_sign", &arguments)?;
    tools.swtpm.tool("tpm2_flushcontext", &["-t"])?;
    let arguments = ["-g", "sha256", "-s", &signature, "-c", &key, "-q", &qualification];
    let theirs = tools.policy("tpm2_policysigned", &arguments)?;
    assert_eq!(theirs, new().signed(&key_name, &reference).octets());

    let nv_index = index(&mut client(&tools.swtpm)?)?;
    let index_name = nv_index.name().context("a Name")?;
    let operand = tools.file("operand", &[0x30, 0x82])?;
    let arguments = ["-C", "0x1c00002", "-i", &operand, "0x1c00002", "eq"];
    let theirs = tools.policy("tpm2_policynv", &arguments)?;
    assert_eq!(theirs, new().nv(&index_name, &[0x30, 0x82], 0, Comparison::EQ).octets());
    let theirs = tools.policy("tpm2_policyauthorizenv", &["-C", "0x1c00002", "0x1c00002"])?;
    assert_eq!(theirs, new().authorize_nv(&index_name).octets());
    Ok(())
}
