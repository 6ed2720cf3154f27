//! Pictures, made small enough to be shown everywhere.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView as _, ImageDecoder as _, ImageFormat, ImageReader, Limits, Rgb, RgbImage};

use super::Kind;

/// How small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The longest side, in pixels.
    pub(crate) side: u32,
    pub(crate) bytes: usize,
    /// JPEG's, from 1 to 100.
    pub(crate) quality: u8,
}

/// A picture that is small enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) bytes: Bytes,
    pub(crate) kind: Kind,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

const JPEG: Kind = Kind { content_type: "image/jpeg", extension: "jpg" };
const PNG: Kind = Kind { content_type: "image/png", extension: "png" };
const WEBP: Kind = Kind { content_type: "image/webp", extension: "webp" };

/// A picture with more pixels on a side, or that needs more memory, is not read: a file of some kilobytes can say that it has gigabytes.
const MAX_SIDE: u32 = 16_384;
const MAX_MEMORY: u64 = 256 << 20;
/// What is still too large is made so much smaller, again and again.
const SHRINK: (u32, u32) = (17, 20);
const SMALLEST: u32 = 16;

/// Makes a picture fit. One that fits already, in a format that browsers show, stays as it is.
///
/// # Errors
/// It is no picture of a known format (JPEG, PNG, WebP), or too large to be read.
pub(crate) fn compress(bytes: &Bytes, bounds: Bounds) -> Result<Picture, String> {
    let (picture, kind) = decode(bytes)?;
    let (width, height) = picture.dimensions();
    if width.max(height) <= bounds.side && bytes.len() <= bounds.bytes {
        return Ok(Picture { bytes: bytes.clone(), kind, width, height });
    }
    let mut flat = flatten(&fit(picture, bounds.side));
    loop {
        let encoded = encode(&flat, bounds.quality)?;
        let (width, height) = flat.dimensions();
        if encoded.len() <= bounds.bytes {
            return Ok(Picture { bytes: encoded.into(), kind: JPEG, width, height });
        }
        if width.max(height) <= SMALLEST {
            return Err(format!("the picture does not fit into {} bytes", bounds.bytes));
        }
        let side = width.max(height) * SHRINK.0 / SHRINK.1;
        flat = flatten(&fit(DynamicImage::ImageRgb8(flat), side));
    }
}

/// The picture as it is to be seen, turned as its camera says.
fn decode(bytes: &Bytes) -> Result<(DynamicImage, Kind), String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let kind = match reader.format() {
        Some(ImageFormat::Jpeg) => JPEG,
        Some(ImageFormat::Png) => PNG,
        Some(ImageFormat::WebP) => WEBP,
        _ => return Err("the picture's format is not known: JPEG, PNG and WebP are".to_owned()),
    };
    let unreadable = |error: image::ImageError| format!("the picture can't be read: {error}");
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let needed = decoder.total_bytes();
    if needed > MAX_MEMORY {
        return Err(format!("the picture can't be read: it needs {needed} bytes of memory"));
    }
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    picture.apply_orientation(orientation);
    Ok((picture, kind))
}

fn fit(picture: DynamicImage, side: u32) -> DynamicImage {
    let (width, height) = picture.dimensions();
    if width.max(height) <= side {
        return picture;
    }
    // What is far too large is made smaller by plain averages first: the good filter needs 16 bytes for each pixel.
    let near = side.saturating_mul(2);
    let picture = if width.max(height) > near { picture.thumbnail(near, near) } else { picture };
    picture.resize(side, side, FilterType::CatmullRom)
}

/// JPEG has no transparency: what shines through is white.
fn flatten(picture: &DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.to_rgb8();
    }
    let rgba = picture.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        let over = |c: u32| u8::try_from((c * a + 255 * (255 - a)) / 255).unwrap_or(u8::MAX);
        Rgb([over(r), over(g), over(b)])
    })
}

fn encode(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    picture
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::RgbaImage;

    use super::*;

    const BOUNDS: Bounds = Bounds { side: 1920, bytes: 500_000, quality: 80 };

    /// Noise, which compresses badly.
    fn noise(width: u32, height: u32, format: ImageFormat) -> Bytes {
        let mut state = 1_u32;
        let picture = RgbImage::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [a, b, c, _] = state.to_be_bytes();
            Rgb([a, b, c])
        });
        written(DynamicImage::ImageRgb8(picture), format)
    }

    fn written(picture: DynamicImage, format: ImageFormat) -> Bytes {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("written");
        bytes.into_inner().into()
    }

    #[test]
    fn large_pictures_fit_afterwards_and_keep_their_proportions() {
        // Noise is the worst that there is: it has to become much smaller than its side would have to.
        let bounds = Bounds { side: 192, bytes: 5000, ..BOUNDS };
        let small = compress(&noise(240, 120, ImageFormat::Png), bounds).expect("a picture");
        assert!(small.bytes.len() <= 5000 && small.width < 192, "{}", small.bytes.len());
        let long = compress(&noise(4000, 20, ImageFormat::Png), BOUNDS).expect("a picture");
        assert_eq!((long.width, long.height), (1920, 10));
        assert!(small.width.abs_diff(small.height * 2) <= 2, "{}x{}", small.width, small.height);
        assert_eq!(small.kind, JPEG);
        assert_eq!(image::guess_format(&small.bytes).expect("a format"), ImageFormat::Jpeg);
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        for (format, kind) in [(ImageFormat::Png, PNG), (ImageFormat::Jpeg, JPEG)] {
            let bytes = noise(64, 32, format);
            let kept = compress(&bytes, BOUNDS).expect("a picture");
            assert_eq!((kept.bytes, kept.kind, kept.width, kept.height), (bytes, kind, 64, 32));
        }
    }

    #[test]
    fn transparency_becomes_white() {
        let clear = DynamicImage::ImageRgba8(RgbaImage::from_pixel(2000, 10, image::Rgba([0, 0, 0, 0])));
        let small = compress(&written(clear, ImageFormat::Png), BOUNDS).expect("a picture");
        let read = image::load_from_memory(&small.bytes).expect("a picture").to_rgb8();
        assert!(read.pixels().all(|pixel| pixel.0.iter().all(|channel| *channel > 250)));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert!(compress(&Bytes::from_static(b"hello"), BOUNDS).is_err());
        let broken = noise(64, 64, ImageFormat::Png).slice(..200);
        assert!(compress(&broken, BOUNDS).is_err());
    }

    /// A PNG that says it has so many pixels, and has none.
    fn bomb(width: u32, height: u32) -> Bytes {
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            let mut crc = u32::MAX;
            for byte in kind.iter().chain(data) {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
                }
            }
            let length = u32::try_from(data.len()).expect("short").to_be_bytes();
            [&length[..], kind, data, &(!crc).to_be_bytes()].concat()
        };
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
        [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &[]), &chunk(b"IEND", &[])]
            .concat()
            .into()
    }

    #[test]
    fn what_would_burst_the_memory_is_refused_before_it_is_read() {
        let refused = |width, height| compress(&bomb(width, height), BOUNDS).expect_err("too large");
        assert!(refused(60_000, 60_000).contains("exceeds"), "{}", refused(60_000, 60_000));
        assert!(refused(16_000, 16_000).contains("memory") || refused(16_000, 16_000).contains("imit"));
        // The same picture of a size that is allowed fails for another reason: it has nothing in it.
        assert!(!refused(100, 100).contains("memory") && !refused(100, 100).contains("imit"));
    }

    #[test]
    fn a_picture_is_turned_as_its_camera_says() {
        let wide = noise(240, 120, ImageFormat::Jpeg);
        // EXIF of one entry: orientation 6, a quarter turn.
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = u16::try_from(exif.len() + 2).expect("short").to_be_bytes();
        let turned = [&wide[..2], &[0xff, 0xe1], &length, exif, &wide[2..]].concat();
        let small = compress(&turned.into(), Bounds { side: 100, ..BOUNDS }).expect("a picture");
        assert!(small.height > small.width, "{}x{}", small.width, small.height);
    }
}
