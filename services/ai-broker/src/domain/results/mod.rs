//! Pictures and sounds that are kept: found in answers, made small, addressed, read.

mod extent;
mod link;
mod media;
mod picture;
mod sound;

pub(crate) use extent::{Bytes as PartBytes, Extent, Part, extent};
pub(crate) use link::{Link, LinkError, Links};
pub(crate) use media::{Found, found};
pub(crate) use picture::{Bounds, Picture, compress};
pub(crate) use sound::sound;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) content_type: &'static str,
    pub(crate) extension: &'static str,
}
