//! What of a file a reader gets who may have it already, or wants a part of it (RFC 9110, 13 and 14).

use std::ops::Range;

/// A part that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) bytes: Bytes,
    /// Only of the file with this tag; empty: of any.
    pub(crate) of: String,
}

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// From `first` to `last`, itself included, or to the end.
    From {
        /// The first byte.
        first: u64,
        /// The last one.
        last: Option<u64>,
    },
    /// So many at the end.
    Suffix(u64),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    Part(Range<u64>),
    /// The reader has it already.
    NotModified,
    /// There are no such bytes.
    Unsatisfiable,
}

/// What of a file with `etag` and `total` bytes is answered to a reader who has the `known` ones and asks for `part`.
pub(crate) fn extent(known: &[String], part: Option<&Part>, etag: &str, total: u64) -> Extent {
    if known.iter().any(|known| known == "*" || known.trim_start_matches("W/") == etag) {
        return Extent::NotModified;
    }
    let Some(part) = part.filter(|part| part.of.is_empty() || part.of == etag) else { return Extent::Whole };
    let range = match part.bytes {
        Bytes::From { first, last } => first..last.map_or(total, |last| total.min(last.saturating_add(1))),
        Bytes::Suffix(count) => total.saturating_sub(count)..total,
    };
    if range.is_empty() { Extent::Unsatisfiable } else { Extent::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_already_gets_nothing() {
        let known = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        for tags in [&["\"a\""][..], &["\"b\"", "W/\"a\""], &["*"]] {
            assert_eq!(extent(&known(tags), None, "\"a\"", 10), Extent::NotModified, "{tags:?}");
        }
        assert_eq!(extent(&known(&["\"b\""]), None, "\"a\"", 10), Extent::Whole);
    }

    #[test]
    fn a_part_is_what_there_is_of_it() {
        let of = |bytes, tag: &str| extent(&[], Some(&Part { bytes, of: tag.into() }), "\"a\"", 10);
        let from = |first, last| Bytes::From { first, last };
        assert_eq!(of(from(2, Some(4)), ""), Extent::Part(2..5));
        assert_eq!(of(from(2, Some(400)), "\"a\""), Extent::Part(2..10));
        assert_eq!(of(from(9, None), ""), Extent::Part(9..10));
        assert_eq!(of(Bytes::Suffix(3), ""), Extent::Part(7..10));
        assert_eq!(of(Bytes::Suffix(30), ""), Extent::Part(0..10));
        assert_eq!(of(from(2, Some(4)), "\"b\""), Extent::Whole, "the file has changed");
        for none in [from(10, None), from(5, Some(4)), Bytes::Suffix(0), from(u64::MAX, Some(u64::MAX))] {
            assert_eq!(of(none, ""), Extent::Unsatisfiable, "{none:?}");
        }
    }
}
