//! What scripts read and write: little-endian doubles, which hold integers up to 2^53 and cost a script one call to read.

use weir_types::MAX_AMOUNT;

/// A list of numbers for a script.
#[derive(Debug, Default)]
pub(super) struct Program(Vec<u8>);

impl Program {
    pub(super) fn with_capacity(numbers: usize) -> Self {
        Self(Vec::with_capacity(8 * numbers))
    }

    /// Appends numbers; what is beyond 2^53 - 1 becomes that.
    pub(super) fn push<const N: usize>(&mut self, numbers: [i64; N]) -> &mut Self {
        for number in numbers {
            self.0.extend_from_slice(&double(number));
        }
        self
    }

    pub(super) fn push_len(&mut self, length: usize) -> &mut Self {
        self.push([len(length)])
    }

    pub(super) fn append(&mut self, other: &Self) -> &mut Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub(super) fn len(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "clamped to what a double holds exactly")]
pub(super) fn double(number: i64) -> [u8; 8] {
    (number.clamp(-MAX_AMOUNT, MAX_AMOUNT) as f64).to_le_bytes()
}

#[expect(clippy::cast_possible_truncation, reason = "the scripts write integers within 2^53")]
pub(super) fn number(bytes: &[u8], at: usize) -> Option<i64> {
    Some(f64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?) as i64)
}

/// All numbers of an answer.
pub(super) fn numbers(bytes: &[u8]) -> Vec<i64> {
    (0..bytes.len() / 8).filter_map(|place| number(bytes, 8 * place)).collect()
}
