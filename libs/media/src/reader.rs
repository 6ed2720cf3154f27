//! Numbers out of bytes that may end too soon.

use crate::NoDuration;

/// The bytes from `at` on, `N` of them.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], NoDuration> {
    let end = at.checked_add(N).ok_or(NoDuration::Malformed)?;
    bytes.get(at..end).and_then(|part| part.try_into().ok()).ok_or(NoDuration::Malformed)
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Result<u16, NoDuration> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Result<u32, NoDuration> {
    array(bytes, at).map(u32::from_be_bytes)
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> Result<u64, NoDuration> {
    array(bytes, at).map(u64::from_be_bytes)
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> Result<u16, NoDuration> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> Result<u32, NoDuration> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> Result<u64, NoDuration> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// A length or place as the machine counts; what does not fit lies beyond every file.
pub(crate) fn size(value: impl TryInto<usize>) -> usize {
    value.try_into().unwrap_or(usize::MAX)
}
