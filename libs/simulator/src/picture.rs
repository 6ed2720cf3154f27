//! Pictures that are made when they are asked for: the same name always gives the same bytes.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

/// The longest side of a picture.
const MOST_PIXELS: u32 = 4_096;

/// A grey picture of noise that does not compress, as PNG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) seed: u64,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Picture {
    /// The nth picture of a prompt.
    pub(crate) fn of_prompt(prompt: &str, nth: u64, (width, height): (u32, u32)) -> Self {
        let mut hasher = DefaultHasher::new();
        (prompt, nth).hash(&mut hasher);
        Self { seed: hasher.finish(), width, height }
    }

    /// What stands after `/files/`.
    pub(crate) fn name(self) -> String {
        format!("{:016x}-{}x{}.png", self.seed, self.width, self.height)
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (seed, size) = name.strip_suffix(".png")?.split_once('-')?;
        let (width, height) = size_of(size)?;
        Some(Self { seed: u64::from_str_radix(seed, 16).ok()?, width, height })
    }

    /// The file: eight bits of grey, in stored (uncompressed) blocks.
    pub(crate) fn png(self) -> Bytes {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut rows = Vec::with_capacity((width + 1) * height);
        let mut state = self.seed | 1;
        for _ in 0..height {
            rows.push(0);
            rows.extend((0..width).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            }));
        }
        let mut head = Vec::with_capacity(13);
        head.extend_from_slice(&self.width.to_be_bytes());
        head.extend_from_slice(&self.height.to_be_bytes());
        head.extend_from_slice(&[8, 0, 0, 0, 0]);
        let mut file = Vec::with_capacity(rows.len() + rows.len() / 65_535 * 5 + 100);
        file.extend_from_slice(b"\x89PNG\r\n\x1a\n");
        let table = crc_table();
        chunk(&mut file, &table, *b"IHDR", &head);
        chunk(&mut file, &table, *b"IDAT", &stored(&rows));
        chunk(&mut file, &table, *b"IEND", &[]);
        Bytes::from(file)
    }
}

/// `1024x768`, as far as a picture of that size is made.
pub(crate) fn size_of(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    let side = |text: &str| text.parse().ok().filter(|side| (1..=MOST_PIXELS).contains(side));
    Some((side(width)?, side(height)?))
}

/// zlib (RFC 1950) around stored blocks (RFC 1951, 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.chunks(65_535);
    let last = blocks.len().saturating_sub(1);
    for (index, block) in blocks.enumerate() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(index == last));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for part in data.chunks(5_000) {
        for &byte in part {
            a += u32::from(byte);
            b += a;
        }
        (a, b) = (a % 65_521, b % 65_521);
    }
    out.extend_from_slice(&((b << 16) | a).to_be_bytes());
    out
}

fn chunk(file: &mut Vec<u8>, table: &[u32; 256], kind: [u8; 4], data: &[u8]) {
    file.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let start = file.len();
    file.extend_from_slice(&kind);
    file.extend_from_slice(data);
    let crc =
        file[start..].iter().fold(u32::MAX, |crc, &byte| table[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8));
    file.extend_from_slice(&(!crc).to_be_bytes());
}

/// CRC-32 as PNG has it (ISO 3309).
fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    for (start, entry) in (0u32..).zip(&mut table) {
        *entry = (0..8).fold(start, |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 });
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn a_name_gives_the_picture_back_and_always_the_same_bytes() {
        let picture = Picture::of_prompt("a ring", 0, (320, 200));
        assert_eq!(Picture::of_name(&picture.name()), Some(picture));
        assert_eq!(picture.png(), picture.png());
        assert_ne!(picture.png(), Picture::of_prompt("a ring", 1, (320, 200)).png());
        for wrong in ["", "x.png", "00-0x5.png", "00-9999x5.png", "zz-5x5.png"] {
            assert_eq!(Picture::of_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn checksums_are_those_of_the_standards() {
        let table = crc_table();
        let mut file = Vec::new();
        chunk(&mut file, &table, *b"IEND", &[]);
        assert_eq!(file, [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82]);
        assert_eq!(stored(b"Wikipedia")[16..], 0x11e6_0398_u32.to_be_bytes());
    }
}
