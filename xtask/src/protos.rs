//! The checked-in code of the crate `proto`: made here from its .proto files, by protox, without
//! protoc.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use protox::prost_reflect::prost::Message;
use protox::prost_reflect::prost_types::DescriptorProto;

/// The packages, in the order in which they are generated: their .proto files and the file they
/// become.
const PACKAGES: [Package; 16] = [
    Package {
        protos: &[
            "endorse/v1/credentials.proto",
            "endorse/v1/join.proto",
            "endorse/v1/identity.proto",
            "endorse/v1/workload.proto",
            "endorse/v1/trust.proto",
            "endorse/v1/admin.proto",
        ],
        generated: "endorse.v1.rs",
    },
    Package { protos: &["teleport/join/v1/joinservice.proto"], generated: "teleport.join.v1.rs" },
    Package {
        protos: &[
            "teleport/legacy/client/proto/joinservice.proto",
            "teleport/legacy/client/proto/authservice.proto",
        ],
        generated: "proto.rs",
    },
    Package {
        protos: &["teleport/legacy/types/types.proto", "teleport/legacy/types/resources.proto"],
        generated: "types.rs",
    },
    Package {
        protos: &[
            "teleport/machineid/v1/bot_instance_service.proto",
            "teleport/machineid/v1/federation_service.proto",
        ],
        generated: "teleport.machineid.v1.rs",
    },
    Package {
        protos: &["teleport/trust/v1/trust_service.proto"],
        generated: "teleport.trust.v1.rs",
    },
    Package {
        protos: &["teleport/clusterconfig/v1/clusterconfig_service.proto"],
        generated: "teleport.clusterconfig.v1.rs",
    },
    Package {
        protos: &["teleport/presence/v1/presence_service.proto"],
        generated: "teleport.presence.v1.rs",
    },
    Package {
        protos: &["teleport/workloadidentity/v1/issuance_service.proto"],
        generated: "teleport.workloadidentity.v1.rs",
    },
    // It has no package.
    Package { protos: &["spiffe/workload.proto"], generated: "_.rs" },
    Package { protos: &["envoy/sds.proto"], generated: "envoy.service.secret.v3.rs" },
    Package { protos: &["envoy/discovery.proto"], generated: "envoy.service.discovery.v3.rs" },
    Package { protos: &["envoy/core.proto"], generated: "envoy.config.core.v3.rs" },
    Package {
        protos: &["envoy/tls.proto"],
        generated: "envoy.extensions.transport_sockets.tls.v3.rs",
    },
    Package { protos: &["google/rpc/status.proto"], generated: "google.rpc.rs" },
    Package {
        protos: &["grpc/reflection/v1/reflection.proto"],
        generated: "grpc.reflection.v1.rs",
    },
];

/// What the agent shows by reflection: the services on the socket of its Workload API, and the messages in Envoy's resources.
const REFLECTED: [&str; 4] = [
    "spiffe/workload.proto",
    "envoy/sds.proto",
    "envoy/tls.proto",
    "grpc/reflection/v1/reflection.proto",
];

/// Messages that carry the secret of a challenge, a private key or a token. Their `Debug` is written by hand.
const SECRET: [&str; 8] = [
    ".teleport.join.v1.TPMSolution",
    ".proto.RegisterUsingTPMMethodChallengeResponse",
    ".X509SVID",
    ".JWTSVID",
    ".WITSVID",
    ".ValidateJWTSVIDRequest",
    ".envoy.service.discovery.v3.DiscoveryResponse",
    ".envoy.config.core.v3.DataSource",
];

/// The packages whose messages others use, and their modules. Modules are not nested as packages are.
const SHARED: [(&str, &str); 4] = [
    ("types", "crate::teleport::types"),
    ("envoy.service.discovery.v3", "crate::envoy::discovery"),
    ("envoy.config.core.v3", "crate::envoy::core"),
    ("google.rpc", "crate::envoy::rpc"),
];

/// The files of services whose streams wait: their messages have buffers of their own length.
const WAITING: [&str; 2] = ["_.rs", "envoy.service.secret.v3.rs"];

struct Package {
    protos: &'static [&'static str],
    generated: &'static str,
}

/// A generated file: where it is checked in, and what it must contain.
pub struct Generated {
    /// The checked-in file.
    pub path: PathBuf,
    /// Its content as the .proto files have it.
    pub content: String,
}

/// Rewrites the checked-in code and returns the files that changed.
pub fn rewrite() -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for file in generate()? {
        if fs::read_to_string(&file.path).is_ok_and(|found| found == file.content) {
            continue;
        }
        fs::write(&file.path, &file.content)
            .with_context(|| format!("writing {}", file.path.display()))?;
        changed.push(file.path);
    }
    Ok(changed)
}

/// Compiles the .proto files in memory.
pub fn generate() -> Result<Vec<Generated>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let packages = PACKAGES.iter().map(|package| package.generate(&proto));
    packages.chain(std::iter::once_with(|| descriptors(&proto))).collect()
}

/// The files that are shown by reflection and what they import, as `proto::reflection::FILES`.
fn descriptors(proto: &Path) -> Result<Generated> {
    let files =
        protox::compile(REFLECTED, [proto.join("protos")]).context("compiling REFLECTED")?;
    let mut content = String::from(
        "/// The files of the services on the socket of the Workload API, with all that they import.\n\
         pub const FILES: &[ProtoFile] = &[\n",
    );
    for mut file in files.file {
        // Comments, which nobody asks for.
        file.source_code_info = None;
        let package = file.package().to_owned();
        let in_package = |name: &str| match package.as_str() {
            "" => name.to_owned(),
            package => format!("{package}.{name}"),
        };
        let mut symbols = Vec::new();
        for service in &file.service {
            let name = in_package(service.name());
            symbols.extend(service.method.iter().map(|method| format!("{name}.{}", method.name())));
            symbols.push(name);
        }
        for message in &file.message_type {
            declare(message, &in_package(message.name()), &mut symbols);
        }
        symbols.extend(file.enum_type.iter().map(|one| in_package(one.name())));
        content.push_str(&format!(
            "    ProtoFile {{\n        name: {:?},\n        imports: &{:?},\n        symbols: &{symbols:?},\n        \
             descriptor: b\"{}\",\n    }},\n",
            file.name(),
            file.dependency,
            file.encode_to_vec().escape_ascii()
        ));
    }
    content.push_str("];\n");
    Ok(Generated { path: proto.join("src/generated/descriptors.rs"), content })
}

/// Adds a message and what is declared in it.
fn declare(message: &DescriptorProto, name: &str, symbols: &mut Vec<String>) {
    symbols.push(name.to_owned());
    symbols.extend(message.enum_type.iter().map(|one| format!("{name}.{}", one.name())));
    for nested in &message.nested_type {
        declare(nested, &format!("{name}.{}", nested.name()), symbols);
    }
}

impl Package {
    fn generate(&self, proto: &Path) -> Result<Generated> {
        let out = tempfile::tempdir().context("a directory for the generated code")?;
        let files = protox::compile(self.protos, [proto.join("protos")])
            .with_context(|| format!("compiling {}", self.protos.join(", ")))?;
        let mut builder = tonic_prost_build::configure()
            .build_transport(false)
            .emit_rerun_if_changed(false)
            .skip_debug(SECRET)
            .out_dir(out.path());
        for (package, module) in SHARED {
            if self.generated.strip_suffix(".rs") != Some(package) {
                builder = builder.extern_path(format!(".{package}"), module);
            }
        }
        if WAITING.contains(&self.generated) {
            builder = builder.codec_path("crate::codec::SmallBuffers");
        }
        builder.compile_fds(files)?;
        let content = fs::read_to_string(out.path().join(self.generated))?;
        Ok(Generated { path: proto.join("src/generated").join(self.generated), content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protos_are_generated_and_checked_in() {
        for file in generate().unwrap() {
            let found = fs::read_to_string(&file.path).unwrap_or_default();
            let differs = found.lines().zip(file.content.lines()).position(|(a, b)| a != b);
            assert!(
                found == file.content,
                "{} is not what its .proto files make, from line {:?} on: `cargo xtask protos`",
                file.path.display(),
                differs.map(|line| line + 1)
            );
        }
    }
}
