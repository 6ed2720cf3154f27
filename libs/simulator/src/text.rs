//! The words that answers are made of, and the count of words in what is asked.

/// One token each; answers go round and round in them.
pub(crate) const VOCABULARY: [&str; 16] = [
    "a", "low", "dam", "holds", "back", "the", "stream", "and", "tells", "how", "much", "of", "it", "flows", "over",
    "today",
];

/// [`VOCABULARY`] with a space after each word.
const ROUND: &str = "a low dam holds back the stream and tells how much of it flows over today ";

/// The word of the n-th token.
pub(crate) fn word(nth: u64) -> &'static str {
    let index = usize::try_from(nth % VOCABULARY.len() as u64).unwrap_or(0);
    VOCABULARY[index]
}

/// Appends so many words with single spaces between.
pub(crate) fn append_words(out: &mut Vec<u8>, words: u64) {
    for _ in 0..words / VOCABULARY.len() as u64 {
        out.extend_from_slice(ROUND.as_bytes());
    }
    for nth in 0..words % VOCABULARY.len() as u64 {
        out.extend_from_slice(word(nth).as_bytes());
        out.push(b' ');
    }
    if words > 0 {
        out.pop();
    }
}

/// How many bytes [`append_words`] appends at most.
pub(crate) fn words_capacity(words: u64) -> usize {
    usize::try_from((words / VOCABULARY.len() as u64 + 1).saturating_mul(ROUND.len() as u64)).unwrap_or(usize::MAX)
}

/// The words between ASCII white space. One pass without branches: a word starts where a space is followed by something else.
pub(crate) fn count_words(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else { return 0 };
    let starts =
        bytes.windows(2).filter(|pair| pair[0].is_ascii_whitespace() && !pair[1].is_ascii_whitespace()).count();
    starts as u64 + u64::from(!first.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn as_many_words_are_written_as_asked_and_counted_as_written() {
        assert_eq!(ROUND, VOCABULARY.map(|word| format!("{word} ")).concat());
        for words in [0, 1, 15, 16, 17, 1000] {
            let mut out = Vec::new();
            append_words(&mut out, words);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(count_words(&text), words);
            assert!(text.len() <= words_capacity(words));
        }
    }

    #[test]
    fn words_are_counted_as_split_ascii_whitespace_finds_them() {
        for text in ["", " ", "a", " a ", "a  b\n\tc", "für élan", "\u{a0}x y"] {
            assert_eq!(count_words(text), text.split_ascii_whitespace().count() as u64, "{text:?}");
        }
    }
}
