//! Compiles the protos without `protoc`, and writes the descriptor set that reflection serves.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const PROTO_ROOT: &str = "proto";
const PACKAGE_FOLDER: &str = "proto/affiliate/billing/v1";
const REDACTED_MESSAGES: [&str; 8] = [
    ".affiliate.billing.v1.Address",
    ".affiliate.billing.v1.BankTransfer",
    ".affiliate.billing.v1.BillingDetails",
    ".affiliate.billing.v1.Company",
    ".affiliate.billing.v1.CustomPayment",
    ".affiliate.billing.v1.Individual",
    ".affiliate.billing.v1.Paypal",
    ".affiliate.billing.v1.Tipalti",
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
    tonic_prost_build::configure()
        .build_client(true)
        // These hold personal data: `src/proto.rs` gives them a `Debug` that shows none, so that no log can print it.
        .skip_debug(REDACTED_MESSAGES)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
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
