//! From protobuf to the domain and back; nothing is decided here.

mod alerts;
mod entitlements;
mod explain;
mod operate;
mod parse;
mod render;
mod service;

pub(crate) use entitlements::limits;
pub(crate) use service::Grpc;
