//! Compiles `proto/` with protox, so that no `protoc` is needed.

use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files: Vec<PathBuf> = ["auth", "billing", "broker", "quota", "usage"]
        .iter()
        .map(|name| root.join(format!("weir/{name}/v1/{name}.proto")))
        .chain(
            [
                "broker/v1/jobs",
                "broker/v1/provider_keys",
                "broker/v1/results",
                "broker/v1/cache",
                "common/v1/error",
                "common/v1/amount",
            ]
            .map(|name| root.join(format!("weir/{name}.proto"))),
        )
        .collect();
    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::Codec")
        // Their secrets must not come into a log by way of `{:?}`.
        .skip_debug([".weir.broker.v1.CreateProviderKeyRequest", ".weir.broker.v1.RotateProviderKeyRequest"])
        .compile_fds(descriptors)?;
    Ok(())
}
