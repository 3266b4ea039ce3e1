//! Compiles the `.proto` files without a `protoc`, and writes an enum of every RPC so that tables
//! over RPCs can be exhaustive.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;

const INSIDE: [&str; 4] = [
    "warren/inside/v1/agent.proto",
    "warren/inside/v1/browser.proto",
    "warren/inside/v1/frame.proto",
    "warren/inside/v1/inside.proto",
];
const GRPC: [&str; 17] = [
    "warren/node/v1/workspace.proto",
    "warren/node/v1/spec.proto",
    "warren/node/v1/status.proto",
    "warren/node/v1/node.proto",
    "warren/admin/v1/common.proto",
    "warren/admin/v1/backup.proto",
    "warren/admin/v1/cluster.proto",
    "warren/admin/v1/client.proto",
    "warren/admin/v1/node.proto",
    "warren/admin/v1/workspace.proto",
    "warren/admin/v1/session.proto",
    "warren/admin/v1/browser.proto",
    "warren/admin/v1/template.proto",
    "warren/admin/v1/secret.proto",
    "warren/admin/v1/watch.proto",
    "warren/admin/v1/user.proto",
    "warren/admin/v1/audit.proto",
];
const RAFT: [&str; 2] = ["warren/raft/v1/raft.proto", "warren/raft/v1/member.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=warren");
    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    let mut files = INSIDE.to_vec();
    if grpc {
        files.extend(GRPC);
        files.extend(RAFT);
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(files, ["."])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("method.rs"), methods(&descriptors)?)?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(grpc)
        .build_server(grpc)
        .compile_fds(descriptors)?;
    Ok(())
}

/// Returns the source of `enum Method`, one variant per RPC, with its gRPC path both ways.
fn methods(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut rows = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                rows.push((
                    format!("{}{}", service.name().replace("Service", ""), method.name()),
                    path,
                    method.server_streaming(),
                ));
            }
        }
    }
    rows.sort();
    let mut source = String::from(
        "/// Every RPC of every service, so that a table over RPCs is checked by the compiler.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[expect(missing_docs, reason = \"each variant is named after its service and RPC\")]\n\
         pub enum Method {\n",
    );
    for (variant, _, _) in &rows {
        writeln!(source, "    {variant},")?;
    }
    let variants: Vec<String> =
        rows.iter().map(|(variant, _, _)| format!("Self::{variant}")).collect();
    writeln!(
        source,
        "}}\n#[allow(clippy::too_many_lines)]\nimpl Method {{\n/// Every RPC, in alphabetical order.\npub const ALL: &[Self] = &[{}];\n\
         /// Returns the gRPC path, `/package.Service/Method`.\n\
         pub const fn path(self) -> &'static str {{ match self {{",
        variants.join(", ")
    )?;
    for (variant, path, _) in &rows {
        writeln!(source, "Self::{variant} => {path:?},")?;
    }
    writeln!(
        source,
        "}} }}\n/// Whether it answers with a stream.\n\
         pub const fn streams(self) -> bool {{ match self {{"
    )?;
    for (variant, _, streams) in &rows {
        writeln!(source, "Self::{variant} => {streams},")?;
    }
    writeln!(
        source,
        "}} }}\n/// Returns the RPC with this gRPC path; none for a path Warren does not serve.\n\
         pub fn from_path(path: &str) -> Option<Self> {{ match path {{"
    )?;
    for (variant, path, _) in &rows {
        writeln!(source, "{path:?} => Some(Self::{variant}),")?;
    }
    writeln!(source, "_ => None, }} }} }}")?;
    Ok(source)
}
