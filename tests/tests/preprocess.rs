//! Pictures: the reference's crops and pixel values, files that are no pictures, phones held
//! sideways, and animations.

use std::io::Cursor;

use image::{
    Delay, DynamicImage, Frame, ImageFormat, RgbImage, RgbaImage,
    codecs::gif::{GifEncoder, Repeat},
};
use univi::{
    Error,
    image::{Animation, Rgb8, patches},
};
use univi_tests::{assert_report, folder};

/// Size, crop, three means, one sum and one sample for each picture of the smallest set.
const CASES_PER_PICTURE: usize = 7;

#[test]
fn pictures_match_the_reference() {
    let report = univi_verify::preprocess::check(&folder());
    assert_report(&report, 13 * CASES_PER_PICTURE);
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture in which every pixel differs.
fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 3) as u8, (y * 5) as u8, (x + y) as u8])
    })
}

fn refusal(bytes: &[u8]) -> String {
    match Rgb8::decode(bytes) {
        Err(Error::BadImage { reason }) => reason,
        other => panic!("expected BadImage, found {other:?}"),
    }
}

#[test]
fn what_is_no_picture_is_refused_with_the_reason() {
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"PNG\r\n just kidding").contains("text"));
    assert!(refusal(&[0, 1, 2, 250, 251]).contains("no known format"));
    assert!(refusal(b"II*\0\x08\0\0\0\0\0").contains("tiff"));
}

#[test]
fn a_damaged_picture_never_panics() {
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ] {
        let whole = encoded(&gradient(40, 30), format);
        assert_eq!(Rgb8::decode(&whole).unwrap().width_px, 40, "{format:?}");
        for at in 0..whole.len().min(600) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            // Whether a flipped bit can be noticed depends on the format; that it panics does not.
            let _ = Rgb8::decode(&damaged);
        }
    }
}

#[test]
fn a_small_file_that_claims_a_huge_picture_is_refused_at_its_header() {
    for (side, words) in [(100_000u32, "100000 x 100000"), (9_000, "save it smaller")] {
        // The chunk's checksum must be right, or the decoder refuses it for that.
        let mut ihdr = b"IHDR".to_vec();
        ihdr.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
        ihdr.extend([8, 2, 0, 0, 0]);
        let crc = !ihdr.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        });
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        png.extend(ihdr);
        png.extend(crc.to_be_bytes());
        png.extend(b"\0\0\0\x10IDAT0123456789abcdef0123");
        png.extend(b"\0\0\0\0IEND\xae\x42\x60\x82");
        assert!(refusal(&png).contains(words), "{}", refusal(&png));
    }

    let mut gif = encoded(&gradient(4, 4), ImageFormat::Gif);
    gif[6..10].fill(0xff);
    assert!(refusal(&gif).contains("65535 x 65535"));

    let mut bmp = encoded(&gradient(4, 4), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000i32.to_le_bytes());
    assert!(refusal(&bmp).contains("60000 x 60000"));
}

#[test]
fn alpha_is_dropped_and_not_composited() {
    let mut bytes = Cursor::new(Vec::new());
    RgbaImage::from_pixel(3, 2, image::Rgba([200, 100, 50, 0]))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    let picture = Rgb8::decode(bytes.get_ref()).unwrap();
    assert_eq!(picture.pixels, [200, 100, 50].repeat(6));
}

#[test]
fn sixteen_bits_keep_their_high_byte_in_every_colour_type() {
    let levels: Vec<u8> = vec![0, 1, 20, 100, 127, 128, 200, 254, 255];
    let wide = |level: &u8| u16::from(*level) << 8 | 0x37;
    let width = levels.len() as u32;
    let expected: Vec<u8> = levels.iter().flat_map(|&level| [level; 3]).collect();
    for channels in 1..=4 {
        let samples: Vec<u16> = levels
            .iter()
            .flat_map(|level| vec![wide(level); channels])
            .collect();
        let picture = match channels {
            1 => DynamicImage::from(
                image::ImageBuffer::<image::Luma<u16>, _>::from_raw(width, 1, samples).unwrap(),
            ),
            2 => image::ImageBuffer::<image::LumaA<u16>, _>::from_raw(width, 1, samples)
                .unwrap()
                .into(),
            3 => image::ImageBuffer::<image::Rgb<u16>, _>::from_raw(width, 1, samples)
                .unwrap()
                .into(),
            _ => image::ImageBuffer::<image::Rgba<u16>, _>::from_raw(width, 1, samples)
                .unwrap()
                .into(),
        };
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        let found = Rgb8::decode(bytes.get_ref()).unwrap();
        assert_eq!(found.pixels, expected, "{channels} channels");
    }
}

#[test]
fn a_phone_held_sideways_takes_upright_pictures() {
    // 24 x 16, the left half red. A JPEG block is 8 x 8, so the halves stay clean.
    let stored = RgbImage::from_fn(24, 16, |x, _| {
        image::Rgb([if x < 8 { 250 } else { 5 }, 5, 5])
    });
    let jpeg = encoded(&stored, ImageFormat::Jpeg);
    let red =
        |picture: &Rgb8, x: usize, y: usize| picture.pixels[(y * picture.width_px + x) * 3] > 128;
    // Tag 0x0112 in a big-endian TIFF block, and where the red ends up.
    for (orientation, size, corner) in [
        (1u8, (24, 16), (0, 0)),
        (3, (24, 16), (23, 0)),
        (6, (16, 24), (0, 0)),
        (8, (16, 24), (0, 23)),
    ] {
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1]);
        turned.extend((exif.len() as u16 + 2).to_be_bytes());
        turned.extend(exif);
        turned.extend(&jpeg[2..]);
        let picture = Rgb8::decode(&turned).unwrap();
        assert_eq!((picture.width_px, picture.height_px), size, "{orientation}");
        assert!(red(&picture, corner.0, corner.1), "{orientation}");
        let opposite = (size.0 - 1 - corner.0, size.1 - 1 - corner.1);
        assert!(!red(&picture, opposite.0, opposite.1), "{orientation}");
    }
}

#[test]
fn a_long_thin_picture_costs_only_what_survives_the_crop() {
    // Resized whole it would be 224 x 13 440 000 pixels; the crop shows one source pixel in 224.
    for (width, height) in [(60_000, 1), (1, 60_000)] {
        let pixels = (0..60_000u32)
            .flat_map(|i| [(i >> 8) as u8, 7, 9])
            .collect();
        let crop = Rgb8::new(width, height, pixels).unwrap().crop(224).unwrap();
        assert_eq!((crop.width_px, crop.height_px), (224, 224));
        assert!(
            crop.pixels
                .chunks(3)
                .all(|p| p == [(30_000 >> 8) as u8, 7, 9])
        );
    }
}

#[test]
fn resizing_to_the_same_size_changes_nothing() {
    let source = gradient(31, 17);
    let picture = Rgb8::new(31, 17, source.into_raw()).unwrap();
    assert_eq!(picture.resize(31, 17).unwrap(), picture);
    assert!(picture.resize(0, 5).is_err());
    assert!(picture.resize(usize::MAX, 2).is_err());
    assert!(picture.crop(0).is_err());
    assert!(picture.crop(usize::MAX).is_err());
}

#[test]
fn patches_lie_as_a_convolution_reads_them() {
    let (size, patch) = (7, 2); // One column and one row of pixels are left over.
    let planar: Vec<f32> = (0..3 * size * size).map(|i| i as f32).collect();
    let rows = patches(&planar, size, patch);
    assert_eq!(rows.len(), 9 * 12);
    let row = &rows[5 * 12..6 * 12]; // Second row of patches, third in it: top 2, left 4.
    let at = |c: usize, y: usize, x: usize| ((c * size + y) * size + x) as f32;
    let expected: Vec<f32> = (0..12)
        .map(|i| at(i / 4, 2 + i % 4 / 2, 4 + i % 2))
        .collect();
    assert_eq!(row, expected);
}

#[test]
fn an_animated_gif_is_a_clip_with_times() {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(Repeat::Infinite).unwrap();
    let delays_ms = [200, 500, 0, 100];
    for (i, delay_ms) in delays_ms.into_iter().enumerate() {
        let colour = image::Rgba([60 * i as u8, 255 - 60 * i as u8, 0, 255]);
        let frame = DynamicImage::from(RgbaImage::from_pixel(9, 6, colour)).into_rgba8();
        let delay = Delay::from_numer_denom_ms(delay_ms, 1);
        encoder
            .encode_frame(Frame::from_parts(frame, 0, 0, delay))
            .unwrap();
    }
    drop(encoder);

    let clip = Animation::new(bytes.clone()).unwrap();
    assert_eq!(clip.frame_count(), 4);
    // A frame without a delay stays for a tenth of a second, as in browsers.
    assert!((clip.duration_s() - 0.9).abs() < 1e-9);
    assert!((clip.times_s()[2] - 0.7).abs() < 1e-9);
    let frames = crops(&clip, &[0, 3, 3], 6).unwrap();
    assert_eq!(frames[0].pixels[..3], [0, 255, 0]);
    assert_eq!(frames[1].pixels[..3], [180, 75, 0]);
    assert_eq!(frames[2], frames[1]);
    for wrong in [&[4][..], &[1, 0]] {
        let refused = clip.crops(wrong, 6).map(drop);
        assert!(matches!(refused, Err(Error::BadRequest { .. })));
    }

    assert_eq!(Rgb8::decode(&bytes).unwrap().crop(6).unwrap(), frames[0]);
    bytes.truncate(bytes.len() / 2);
    assert!(matches!(Animation::new(bytes), Err(Error::BadVideo { .. })));
    let still = encoded(&gradient(4, 4), ImageFormat::Png);
    assert!(matches!(Animation::new(still), Err(Error::BadVideo { .. })));
}

/// The frames at `indices`, cropped, and nothing of those between.
fn crops(clip: &Animation, indices: &[usize], size_px: usize) -> univi::Result<Vec<Rgb8>> {
    let mut found = Vec::new();
    for drawn in clip.crops(indices, size_px)? {
        found.extend(drawn?.map(|(_, crop)| crop));
    }
    Ok(found)
}

/// A GIF by hand: `side` x `side` pixels, and frames of (corner, size, disposal, index of the
/// colour) with the colours black, white, red and transparent.
fn gif(side: u16, frames: &[([u16; 2], [u16; 2], u8, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let palette = [0, 0, 0, 255, 255, 255, 255, 0, 0, 9, 9, 9];
    let mut encoder = gif::Encoder::new(&mut bytes, side, side, &palette).unwrap();
    for &([left, top], [width, height], disposal, colour) in frames {
        let frame = gif::Frame {
            left,
            top,
            width,
            height,
            delay: 10,
            dispose: gif::DisposalMethod::from_u8(disposal).unwrap(),
            transparent: Some(3),
            buffer: vec![colour; usize::from(width) * usize::from(height)].into(),
            ..gif::Frame::default()
        };
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    bytes
}

#[test]
fn frames_of_a_gif_are_composed_as_a_browser_does() {
    let (keep, background, previous) = (1, 2, 3);
    let clip = Animation::new(gif(
        4,
        &[
            ([0, 0], [4, 4], keep, 1),
            ([1, 1], [2, 2], previous, 2),
            ([2, 2], [9, 9], background, 2),
            ([0, 0], [4, 4], keep, 3),
        ],
    ))
    .unwrap();
    // At their own size, frames are copied: `.` is black, `w` white, `r` red.
    let shown: Vec<String> = crops(&clip, &[0, 1, 2, 3], 4)
        .unwrap()
        .iter()
        .map(|frame| {
            let letter = |p: &[u8]| match p {
                [0, 0, 0] => '.',
                [255, 0, 0] => 'r',
                _ => 'w',
            };
            frame.pixels.chunks(3).map(letter).collect()
        })
        .collect();
    assert_eq!(
        shown,
        [
            "wwwwwwwwwwwwwwww",
            "wwwwwrrwwrrwwwww",
            "wwwwwwwwwwrrwwrr",
            "wwwwwwwwww..ww.."
        ]
    );
    // What is skipped is drawn all the same, and rows that changed in between are resampled.
    let all = crops(&clip, &[0, 1, 2, 3], 3).unwrap();
    for (index, frame) in all.iter().enumerate() {
        assert_eq!(crops(&clip, &[index], 3).unwrap()[0], *frame);
    }
    assert_eq!(crops(&clip, &[0, 3], 3).unwrap()[1], all[3]);
}

#[test]
fn frames_that_change_one_pixel_of_a_large_canvas_cost_that_pixel() {
    let frame = ([7, 7], [1, 1], 1, 2);
    let clip = Animation::new(gif(4000, &[frame; 100])).unwrap();
    let indices: Vec<usize> = (0..100).collect();
    let begun = std::time::Instant::now();
    assert_eq!(crops(&clip, &indices, 224).unwrap().len(), 100);
    // 45 s where each frame was composed and resampled whole.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn every_cut_of_every_format_is_refused() {
    let picture = DynamicImage::from(gradient(40, 30));
    let mut files: Vec<Vec<u8>> = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ]
    .map(|format| encoded(&picture.to_rgb8(), format))
    .into();
    files.push(gif(40, &[([0, 0], [40, 40], 1, 2), ([3, 3], [5, 5], 1, 1)]));
    for whole in files {
        Rgb8::decode(&whole).unwrap();
        for end in 0..whole.len() {
            refusal(&whole[..end]);
        }
    }
}

#[test]
fn a_picture_takes_no_more_memory_than_its_bytes_justify() {
    let canvas = gif(11_500, &[([0, 0], [1, 1], 1, 1)]);
    assert!(refusal(&canvas).contains("11500 x 11500"));
    assert!(matches!(
        Animation::new(canvas),
        Err(Error::BadVideo { .. })
    ));

    // Run-length coded: an end-of-bitmap mark after the header and 256 colours.
    let mut bmp = b"BM\x38\x04\0\0\0\0\0\0\x36\x04\0\0\x28\0\0\0".to_vec();
    bmp.extend([11_500u32.to_le_bytes(), 11_500u32.to_le_bytes()].concat());
    bmp.extend(b"\x01\0\x08\0\x01\0\0\0\x02\0\0\0");
    bmp.resize(54 + 1024, 0);
    bmp.extend([0, 1]);
    assert!(refusal(&bmp).contains("11500 x 11500"));

    // An extended WebP of one small frame on a canvas of 16384 x 8192.
    let frame = encoded(&gradient(4, 4), ImageFormat::WebP);
    let mut webp = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x1f\0".to_vec();
    webp.extend(&frame[12..]);
    let size = (webp.len() as u32 - 8).to_le_bytes();
    webp[4..8].copy_from_slice(&size);
    assert!(
        refusal(&webp).contains("16384 x 8192"),
        "{}",
        refusal(&webp)
    );

    // Half a gigabyte of zeros as a colour profile, of which nothing is unpacked.
    let mut png = encoded(&gradient(10, 10), ImageFormat::Png);
    let mut chunk = b"iCCPx\0\0".to_vec();
    chunk.extend(std::iter::repeat_n(0, 1000));
    let mut profile = (chunk.len() as u32 - 4).to_be_bytes().to_vec();
    profile.extend(chunk);
    profile.extend([0; 4]);
    png.splice(33..33, profile);
    assert_eq!(Rgb8::decode(&png).unwrap().width_px, 10);
}
