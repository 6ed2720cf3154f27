//! What bodies say, by hashes: at hand for a body that comes again, which most of those do that are answered from what is kept.

use ring::digest::{SHA256, digest};

use super::canonical;

/// The SHA-256 of a text.
pub(crate) type TextHash = [u8; 32];

/// Bodies that are kept.
const CAPACITY: u64 = 20_000;

/// Hashes of canonical texts.
pub(crate) struct Texts {
    /// Members of a body that say nothing.
    ignored: Vec<String>,
    /// By the hash of the body as it came.
    known: moka::sync::Cache<TextHash, TextHash>,
}

impl Texts {
    /// Without the members of these names.
    pub(crate) fn without(ignored: Vec<String>) -> Self {
        Self { ignored, known: moka::sync::Cache::new(CAPACITY) }
    }

    /// The same for all bodies that say the same.
    pub(crate) fn hash(&self, body: &[u8]) -> TextHash {
        let as_it_came = sha256(body);
        if let Some(known) = self.known.get(&as_it_came) {
            return known;
        }
        let hash = sha256(&canonical(body, &self.ignored));
        self.known.insert(as_it_came, hash);
        hash
    }
}

fn sha256(text: &[u8]) -> TextHash {
    let mut hash = TextHash::default();
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_has_one_hash_the_first_time_and_again() {
        let texts = Texts::without(vec!["user".to_owned()]);
        let bodies = [r#"{"a":1,"b":"x"}"#, r#"{"b": "\u0078", "a": 1, "user": "me"}"#, r#"{"a":1,"b":"y"}"#];
        for _ in 0..2 {
            let [first, same, other] = bodies.map(|body| texts.hash(body.as_bytes()));
            assert_eq!(first, same);
            assert_ne!(first, other);
        }
    }
}
