//! Turns `proto/` into Rust and keeps the descriptors for gRPC reflection; no `protoc` is needed on the
//! machine.

use std::error::Error;
use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let file = root.join("lf/a2a/v1/a2a.proto");
    println!("cargo:rerun-if-changed={}", file.display());
    println!("cargo:rerun-if-changed=build.rs");

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true).open_file(&file)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())?;

    // Comments are of no use on the wire: reflection gets the descriptors without them.
    let mut bare = protox::Compiler::new([&root])?;
    bare.include_source_info(false).include_imports(true).open_file(&file)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    std::fs::write(out.join("a2a_descriptors.bin"), bare.encode_file_descriptor_set())?;
    Ok(())
}
