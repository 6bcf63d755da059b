//! Each coordinate again, from the whole content and as plainly as can be.

use super::{END, Modality};

/// log2(value / unit) · 2^octave, straight between powers of two.
fn log2(value: u128, unit: u128, octave: u32) -> u128 {
    let mut power = unit;
    let mut whole = 0;
    while power * 2 <= value {
        power *= 2;
        whole += 1;
    }
    let line = (value - power) * (1 << octave) / power;
    ((whole << octave) + line).min(END)
}

fn isqrt(square: u128) -> u128 {
    let (mut low, mut high) = (0, 1 << 60);
    while low + 1 < high {
        let middle = (low + high) / 2;
        if middle * middle <= square {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

fn length(content: &[u8]) -> u128 {
    log2(content.len() as u128 + 1, 1, 23)
}

fn mean(bytes: &[u8], end: u128) -> u128 {
    let sum: u128 = bytes.iter().map(|&b| u128::from(b)).sum();
    (sum * end).checked_div(bytes.len() as u128).unwrap_or(0)
}

fn prefix(content: &[u8], skip: &str) -> u128 {
    // In the order of the digits; what is not in it is a control character.
    let printed: Vec<u8> = (b' '..=b'~').filter(|b| !b.is_ascii_uppercase()).collect();
    let skip = |b: &&u8| skip.as_bytes().contains(b);
    let mut digits: Vec<u128> = (content.iter().skip_while(skip))
        .map(|&b| match b {
            9..=13 => 1,
            0..0x80 => {
                let small = b.to_ascii_lowercase();
                let place = printed.iter().position(|&p| p == small);
                place.map_or(0, |place| place as u128 + 1)
            }
            0x80..0xC0 => u128::from(b % 64),
            _ => u128::from(b % 64 + 70).min(127),
        })
        .take(4)
        .collect();
    digits.resize(4, 0);
    digits.iter().fold(0, |number, digit| number * 128 + digit)
}

const SPACE: &str = " \t\n\x0B\x0C\r";

fn text(content: &[u8]) -> [u128; 3] {
    let firsts: Vec<u8> = content
        .iter()
        .copied()
        .filter(|b| b & 0xC0 != 0x80)
        .collect();
    // Of an axis of 2^23: in the middle half, a step of one is four times that behind it.
    let mean = mean(&firsts, 1 << 21);
    let steps = [(0, 64, 1, 2), (64, 128, 1, 1), (128, 256, 1, 4)];
    let y = steps.map(|(from, to, over, under)| {
        let (from, to) = (from << 21, to << 21);
        (mean.clamp(from, to) - from) * over / under
    });
    [prefix(content, SPACE), y.iter().sum(), length(content)]
}

fn code(content: &[u8]) -> [u128; 3] {
    let start = content.iter().position(|b| !SPACE.as_bytes().contains(b));
    let before = &content[..start.unwrap_or(content.len())];
    let line = before.rsplit(|b| !b" \t".contains(b)).next().unwrap();
    let columns: u128 = line.iter().map(|b| if *b == b'\t' { 4 } else { 1 }).sum();
    let marks = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".as_bytes();
    let marks = content.iter().filter(|b| marks.contains(b)).count() as u128;
    let place = (1 << 24) - 1;
    let share = (2 * marks * place)
        .checked_div(content.len() as u128)
        .unwrap_or(0);
    let y = (columns / 2).min(15) * (1 << 24) + share.min(place);
    [prefix(content, SPACE), y, length(content)]
}

fn structured(content: &[u8]) -> [u128; 3] {
    let counted: Vec<u8> = content
        .iter()
        .map(|&b| u8::from((33..127).contains(&b) && !char::from(b).is_alphabetic()))
        .collect();
    let skip = format!("{SPACE}{{}}[]()<>\"',:;");
    [prefix(content, &skip), mean(&counted, END), length(content)]
}

fn audio(content: &[u8]) -> [u128; 3] {
    let samples: Vec<i128> = content
        .chunks_exact(2)
        .map(|b| i16::from_le_bytes([b[0], b[1]]).into())
        .collect();
    let count = samples.len() as u128;
    let squares: i128 = samples.iter().map(|s| s * s).sum();
    let Some(mean_square) = (squares as u128 * (1 << 26)).checked_div(count) else {
        return [0; 3];
    };
    let changes = samples
        .windows(2)
        .filter(|two| (two[0] < 0) != (two[1] < 0));
    let rate = (changes.count() as u128 * (1 << 28))
        .checked_div(count - 1)
        .unwrap_or(0);
    let peak = samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
    [
        log2((1 << 13) + isqrt(mean_square), 1 << 13, 24),
        log2((1 << 12) + rate, 1 << 12, 24),
        log2(1 + peak, 1, 24),
    ]
}

/// Mean of bytes with 255 at the end of the axis.
fn mean_of_255(bytes: &[u8]) -> u128 {
    let sum: u128 = bytes.iter().map(|&b| u128::from(b)).sum();
    (sum * END)
        .checked_div(255 * bytes.len() as u128)
        .unwrap_or(0)
}

fn image(content: &[u8]) -> [u128; 3] {
    [0, 1, 2].map(|colour| {
        let bytes: Vec<u8> = content.iter().copied().skip(colour).step_by(3).collect();
        mean_of_255(&bytes)
    })
}

fn bytes(content: &[u8]) -> [u128; 3] {
    let count = content.len() as f64;
    let mean = content.iter().map(|&b| f64::from(b)).sum::<f64>() / count;
    let squares = content.iter().map(|&b| (f64::from(b) - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    let steps: Vec<u8> = content
        .windows(2)
        .map(|two| two[0].abs_diff(two[1]))
        .collect();
    [
        mean_of_255(content),
        (deviation / 127.5 * 2f64.powi(28)) as u128,
        self::mean(&steps, 1 << 21).min(END),
    ]
}

fn tensor(content: &[u8]) -> [u128; 3] {
    let words: Vec<f64> = content
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .filter(|word| word.is_finite())
        .map(f64::from)
        .collect();
    if words.is_empty() {
        return [0; 3];
    }
    let count = words.len() as f64;
    let mean = words.iter().sum::<f64>() / count;
    let squares = words.iter().map(|word| (word - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    let largest = words
        .iter()
        .fold(0.0, |most: f64, word| most.max(word.abs()));
    [
        (1.0 + mean * 64.0 / (1.0 + 64.0 * mean.abs())) / 2.0,
        16.0 * deviation / (1.0 + 16.0 * deviation),
        largest / (1.0 + largest),
    ]
    .map(|share| (share * 2f64.powi(28)) as u128)
}

/// x, y, z, and how far each may be from the truth because both are rounded on the way.
pub fn coordinates(modality: Modality, content: &[u8]) -> ([u128; 3], [u128; 3]) {
    match modality {
        Modality::Text => (text(content), [0; 3]),
        Modality::Code => (code(content), [0; 3]),
        Modality::Structured => (structured(content), [0; 3]),
        Modality::Audio => (audio(content), [0; 3]),
        Modality::Image => (image(content), [0; 3]),
        Modality::Tensor => (tensor(content), [1, 256, 1]),
        Modality::Video | Modality::Other => (bytes(content), [0, 1, 0]),
    }
}
