//! `Range` (RFC 9110, 14.2): one range of bytes. Whoever asks for anything else gets the whole, as the RFC allows.

use weir_proto::broker::v1::{ByteRange, byte_range::From};

/// Reads the header.
pub(super) fn parse(header: &str) -> Option<ByteRange> {
    let (unit, range) = header.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let range = match (first.trim(), last.trim()) {
        ("", last) => ByteRange { from: Some(From::Suffix(number(last)?)), last: None },
        (first, "") => ByteRange { from: Some(From::First(number(first)?)), last: None },
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            // Such a range is a mistake, not one that can't be satisfied.
            (first <= last).then_some(())?;
            ByteRange { from: Some(From::First(first)), last: Some(last) }
        }
    };
    Some(range)
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_read_and_nothing_else() {
        let from = |first, last| Some(ByteRange { from: Some(From::First(first)), last });
        assert_eq!(parse("bytes=0-499"), from(0, Some(499)));
        assert_eq!(parse("Bytes = 500-"), from(500, None));
        assert_eq!(parse("bytes=-20"), Some(ByteRange { from: Some(From::Suffix(20)), last: None }));
        for other in
            ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,4-5", "items=0-1", "bytes=+1-2"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
