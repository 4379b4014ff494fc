//! The generated types. Nothing outside of this crate sees them.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    reason = "generated code is not ours to polish"
)]

tonic::include_proto!("lf.a2a.v1");

/// The descriptors of everything above, for reflection.
pub(crate) const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/a2a_descriptors.bin"));
