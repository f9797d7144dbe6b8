//! Compiles the protos without `protoc`, and writes the descriptor set that reflection serves and the list of all RPCs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const PROTO_ROOT: &str = "proto";
const PACKAGE_FOLDER: &str = "proto/affiliate/billing/v1";
const REDACTED_MESSAGES: [&str; 9] = [
    ".affiliate.billing.v1.Address",
    ".affiliate.billing.v1.BankTransfer",
    ".affiliate.billing.v1.BillingDetails",
    ".affiliate.billing.v1.Company",
    ".affiliate.billing.v1.CustomPayment",
    ".affiliate.billing.v1.Individual",
    ".affiliate.billing.v1.PaymentMethodFieldChange",
    ".affiliate.billing.v1.Paypal",
    ".affiliate.billing.v1.Tipalti",
];

/// What is served besides the package: names as in the list of RPCs, with their paths.
const OTHER_RPCS: [(&str, &str); 4] = [
    ("HealthCheck", "/grpc.health.v1.Health/Check"),
    ("HealthWatch", "/grpc.health.v1.Health/Watch"),
    (
        "ServerReflectionInfoV1",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ),
    (
        "ServerReflectionInfoV1Alpha",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(proto_files(Path::new(PACKAGE_FOLDER))?)?;
    let out_folder = PathBuf::from(env::var("OUT_DIR")?);
    // With source info, so that `grpcurl describe` shows the comments.
    fs::write(
        out_folder.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let files = compiler.file_descriptor_set();
    let mut rpcs: Vec<(String, String)> = OTHER_RPCS
        .iter()
        .map(|(name, path)| ((*name).to_owned(), (*path).to_owned()))
        .collect();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                rpcs.push((method.name().to_owned(), path));
            }
        }
    }
    fs::write(out_folder.join("rpcs.rs"), rpc_enum(&rpcs))?;
    let mut config = tonic_prost_build::Config::new();
    // The codec looks its messages up by their names.
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_client(true)
        .codec_path("crate::grpc::CountingCodec")
        // These hold personal data: `src/proto.rs` gives them a `Debug` that shows none, so that no log can print it.
        .skip_debug(REDACTED_MESSAGES)
        .compile_fds_with_config(files, config)?;
    Ok(())
}

/// An enum of all RPCs: the permissions match on it, so that one without permissions does not compile.
fn rpc_enum(rpcs: &[(String, String)]) -> String {
    let mut variants = String::new();
    let mut all = String::new();
    let mut paths = String::new();
    let mut parsed = String::new();
    for (name, path) in rpcs {
        variants += &format!("    /// `{path}`\n    {name},\n");
        all += &format!("        Self::{name},\n");
        paths += &format!("            Self::{name} => {path:?},\n");
        parsed += &format!("            {path:?} => Some(Self::{name}),\n");
    }
    let count = rpcs.len();
    format!(
        "/// Every RPC that the server answers.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq)]\n\
         pub enum Rpc {{\n{variants}}}\n\n\
         impl Rpc {{\n    \
             /// All of them.\n    \
             pub const ALL: [Self; {count}] = [\n{all}    ];\n\n    \
             /// Its path on the wire.\n    \
             #[must_use]\n    \
             pub fn path(self) -> &'static str {{\n        match self {{\n{paths}        }}\n    }}\n\n    \
             /// The RPC of a path, where there is one.\n    \
             #[must_use]\n    \
             pub fn of_path(path: &str) -> Option<Self> {{\n        match path {{\n{parsed}            _ => None,\n        }}\n    }}\n\
         }}\n"
    )
}

fn proto_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
