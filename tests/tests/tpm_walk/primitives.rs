//! Part 3 §14 to §16: asymmetric and symmetric primitives, random numbers.

use anyhow::{Result, ensure};
use tpm2::commands::*;
use tpm2::types::*;
use tpm2::wire::Tpm2b;

use crate::props;
use crate::stage::{Act, EMPTY, Scene, Stage, octets};

pub const ACTS: &[Act] = &[Act {
    name: "primitives",
    scenes: &[
        Scene { title: "encrypted with RSA and decrypted", play: rsa },
        Scene { title: "a secret shared over a curve by both sides", play: ecdh },
        Scene { title: "a key exchange in two phases", play: two_phases },
        Scene { title: "the numbers of a curve", play: curve },
        Scene { title: "encrypted with a cipher and decrypted", play: cipher },
        Scene { title: "a hash, and an HMAC", play: hash },
        Scene { title: "random octets out and in", play: random },
    ],
}];

fn rsa(stage: &mut Stage<'_>) -> Result<()> {
    let key_handle = props::load_rsa(stage)?;
    let command = RsaEncrypt {
        key_handle,
        message: PublicKeyRsa::from(b"a message"),
        in_scheme: AsymScheme::Oaep(props::SHA256),
        label: Data::from(b"label\0"),
    };
    let cipher_text = stage.run(&command, [])?.out_data.octets().to_vec();
    let command = RsaDecrypt {
        key_handle,
        cipher_text: PublicKeyRsa::new(&cipher_text)?,
        in_scheme: command.in_scheme,
        label: command.label,
    };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(answer.message.octets() == b"a message", "another message");
    Ok(())
}

fn ecdh(stage: &mut Stage<'_>) -> Result<()> {
    let key_handle = stage.key(props::exchange_key())?;
    let answer = stage.run(&EcdhKeyGen { key_handle }, [])?;
    let (shared, point) = (octets(&answer.z_point)?, octets(&answer.pub_point)?);
    let in_point = <Tpm2b<EccPoint<'_>> as tpm2::wire::Unmarshal<'_>>::from_bytes(&point)?;
    let answer = stage.run(&EcdhZGen { key_handle, in_point }, [EMPTY])?;
    ensure!(octets(&answer.out_point)? == shared, "another secret");
    Ok(())
}

fn two_phases(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::exchange_key())?;
    let answer = stage.run(&EcEphemeral { curve_id: Curve::NIST_P256 }, [])?;
    let (point, counter) = (octets(&answer.q)?, answer.counter);
    let public = <Tpm2b<EccPoint<'_>> as tpm2::wire::Unmarshal<'_>>::from_bytes(&point)?;
    let command =
        ZGen2Phase { key_a: key, in_qs_b: public, in_qe_b: public, in_scheme: Alg::ECDH, counter };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(!octets(&answer.out_z2)?.is_empty(), "no second point");
    Ok(())
}

fn curve(stage: &mut Stage<'_>) -> Result<()> {
    for curve_id in [Curve::NIST_P256, Curve::NIST_P384, Curve::BN_P256] {
        let answer = stage.run(&EccParameters { curve_id }, [])?;
        ensure!(answer.parameters.curve == curve_id, "{answer:?}");
    }
    Ok(())
}

fn cipher(stage: &mut Stage<'_>) -> Result<()> {
    let key_handle = stage.key(props::cipher_key())?;
    let iv = [9; 16];
    let command = EncryptDecrypt {
        key_handle,
        decrypt: false,
        mode: Alg::CFB,
        iv_in: Iv::new(&iv)?,
        in_data: MaxBuffer::from(b"a message"),
    };
    let first = stage.run(&command, [EMPTY])?.out_data.octets().to_vec();
    let command = EncryptDecrypt2 {
        key_handle,
        in_data: MaxBuffer::new(&first)?,
        decrypt: true,
        mode: Alg::CFB,
        iv_in: command.iv_in,
    };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(answer.out_data.octets() == b"a message", "another message");
    Ok(())
}

fn hash(stage: &mut Stage<'_>) -> Result<()> {
    let command = Hash {
        data: MaxBuffer::from(b"a message"),
        hash_alg: Alg::SHA256,
        hierarchy: Hierarchy::Owner,
    };
    let answer = stage.run(&command, [])?;
    ensure!(answer.out_hash.octets().len() == 32, "{answer:?}");
    ensure!(answer.validation.tag == Structure::HASHCHECK, "{answer:?}");
    let handle = stage.key(props::hmac_key())?;
    let command = Hmac { handle, buffer: MaxBuffer::from(b"a message"), hash_alg: Alg::SHA256 };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(answer.out_hmac.octets().len() == 32, "{answer:?}");
    Ok(())
}

fn random(stage: &mut Stage<'_>) -> Result<()> {
    let answer = stage.run(&GetRandom { bytes_requested: 16 }, [])?;
    ensure!(answer.random_bytes.octets().len() == 16, "{answer:?}");
    stage.run(&StirRandom { in_data: SensitiveData::from(b"not so random") }, [])?;
    Ok(())
}
