//! From protobuf to the domain and back; nothing is decided here.

mod entitlements;
mod parse;
mod service;

pub(crate) use entitlements::limits;
pub(crate) use service::Grpc;
