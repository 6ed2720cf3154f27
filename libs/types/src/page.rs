//! Pagination (AIP-158): opaque page tokens that only continue the list that gave them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A page token that the list at hand did not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the page token is not from this list: repeat the request that gave it with nothing changed but the token")]
pub struct InvalidPageToken;

/// A page size below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the page size must not be negative")]
pub struct NegativePageSize;

/// Makes and reads page tokens. A token names its place in a list and carries the list's
/// fingerprint. It grants nothing: every page is read with the caller's own authority.
#[derive(Debug)]
pub struct PageToken;

const FINGERPRINT: usize = 8;

impl PageToken {
    /// A token for the place `cursor` in `list`, which stands for the method, the parent and the filters.
    #[must_use]
    pub fn encode(list: &str, cursor: &str) -> String {
        let mut bytes = fingerprint(list, cursor.as_bytes()).to_vec();
        bytes.extend_from_slice(cursor.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place in `list` that `token` stands for.
    ///
    /// # Errors
    /// When the token is not one of this list's.
    pub fn decode(list: &str, token: &str) -> Result<String, InvalidPageToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidPageToken)?;
        let (given, cursor) = bytes.split_at_checked(FINGERPRINT).ok_or(InvalidPageToken)?;
        if given != fingerprint(list, cursor) {
            return Err(InvalidPageToken);
        }
        String::from_utf8(cursor.to_vec()).map_err(|_| InvalidPageToken)
    }
}

fn fingerprint(list: &str, cursor: &[u8]) -> [u8; FINGERPRINT] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&(list.len() as u64).to_be_bytes());
    context.update(list.as_bytes());
    context.update(cursor);
    let digest = context.finish();
    let mut bytes = [0; FINGERPRINT];
    bytes.copy_from_slice(&digest.as_ref()[..FINGERPRINT]);
    bytes
}

/// How many items a page has: `default` for 0, at most `max`.
///
/// # Errors
/// When it is negative.
pub fn page_size(requested: i32, default: u32, max: u32) -> Result<u32, NegativePageSize> {
    match u32::try_from(requested) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(max)),
        Err(_) => Err(NegativePageSize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_continues_its_own_list_only() {
        let token = PageToken::encode("users of a", "cursor");
        assert_eq!(PageToken::decode("users of a", &token).as_deref(), Ok("cursor"));
        assert_eq!(PageToken::decode("users of b", &token), Err(InvalidPageToken));
        assert_eq!(PageToken::decode("users of a", "not base64!"), Err(InvalidPageToken));
        assert_eq!(PageToken::decode("users of a", ""), Err(InvalidPageToken));
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_size(0, 50, 1000), Ok(50));
        assert_eq!(page_size(7, 50, 1000), Ok(7));
        assert_eq!(page_size(5000, 50, 1000), Ok(1000));
        assert_eq!(page_size(-1, 50, 1000), Err(NegativePageSize));
    }
}
