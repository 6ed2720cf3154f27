//! What the broker decides, without I/O: what a request asks for, what it can cost at most, which
//! key serves it, and what its answer used.

/// Where a constant text stands in another; what finds it is made once.
macro_rules! find {
    ($text:expr, $needle:literal) => {{
        use std::sync::LazyLock;

        use memchr::memmem::Finder;
        static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new($needle));
        FINDER.find($text)
    }};
}

pub(crate) mod amounts;
pub(crate) mod api;
pub(crate) mod cache;
pub(crate) mod catalogue;
pub mod dialects;
pub(crate) mod exchange;
pub(crate) mod idempotency;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod media;
pub(crate) mod multipart;
pub(crate) mod own_keys;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod results;
pub(crate) mod retry_after;
pub(crate) mod said;
pub(crate) mod sealing;
pub(crate) mod sse;
pub(crate) mod usage;
