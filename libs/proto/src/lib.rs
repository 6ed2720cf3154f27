//! The generated messages, clients and servers of `proto/`, and their descriptors; and how messages go from one to the other.
//!
//! The documentation of every generated item is in the `.proto` files.

// Generated code.
#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]

#[warn(missing_docs, clippy::all, unreachable_pub)]
pub mod codec;

/// The encoded `FileDescriptorSet` of all services, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages that all services share.
pub mod common {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.common.v1");
    }
}

/// Who is calling.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.auth.v1");
    }
}

/// May they.
pub mod quota {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.quota.v1");
    }
}

/// Which provider answers.
pub mod broker {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.broker.v1");
    }
}

/// What was used.
pub mod usage {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.usage.v1");
    }
}

/// Who pays.
pub mod billing {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("weir.billing.v1");
    }
}
