//! Bytes to take apart.

use modelstore_atom::Modality;

/// Numbers without end from a seed (SplitMix64).
pub fn random(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    random(seed).flat_map(u64::to_le_bytes).take(len).collect()
}

/// Words from a vocabulary in which short ones are frequent, with `between` after each.
fn words(len: usize, seed: u64, mut between: impl FnMut(u64) -> &'static str) -> Vec<u8> {
    let mut text = String::with_capacity(len + 64);
    let mut numbers = random(seed);
    while text.len() < len {
        let number = numbers.next().unwrap();
        let rank = number as usize % (1 << ((number >> 32) % 12));
        let letters = random(rank as u64).map(|n| char::from(b'a' + (n % 26) as u8));
        text.extend(letters.take(2 + rank.max(1).ilog2() as usize));
        text.push_str(between(number >> 48));
    }
    text.truncate(len);
    text.into_bytes()
}

/// Lines of prose, most too long for a leaf, in paragraphs.
pub fn prose(len: usize, seed: u64) -> Vec<u8> {
    words(len, seed, |number| match number % 64 {
        0 => "\n\n",
        1..6 => ".\n",
        6..12 => ", ",
        _ => " ",
    })
}

/// Words on one line.
pub fn one_line(len: usize, seed: u64) -> Vec<u8> {
    words(len, seed, |_| " ")
}

/// Values with commas between them, without white space.
pub fn values(len: usize, seed: u64) -> Vec<u8> {
    words(len, seed, |_| ",")
}

/// A line without a word end.
pub fn one_word(len: usize, seed: u64) -> Vec<u8> {
    random(seed)
        .map(|n| {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[n as usize % 64]
        })
        .take(len)
        .collect()
}

/// Characters of three bytes each, without a line end.
pub fn ideographs(len: usize, seed: u64) -> Vec<u8> {
    let characters = random(seed).map(|n| char::from_u32(0x4E00 + n as u32 % 20_000).unwrap());
    let mut text: String = characters.take(len / 3).collect();
    text.extend(std::iter::repeat_n('.', len % 3));
    text.into_bytes()
}

/// A WAVE file of frames of so many bytes, with a chunk before them and one after.
pub fn wave(frame: u16, data: &[u8]) -> Vec<u8> {
    let mut out = b"RIFF\0\0\0\0WAVE".to_vec();
    let mut chunk = |name: &[u8; 4], body: &[u8]| {
        out.extend(name);
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(body);
        out.extend(vec![0; body.len() % 2]);
    };
    chunk(b"JUNK", &[7; 27]);
    let mut format = [0; 16];
    format[12..14].copy_from_slice(&frame.to_le_bytes());
    chunk(b"fmt ", &format);
    chunk(b"data", data);
    chunk(b"LIST", b"INFOISFT");
    out
}

/// A safetensors file of tensors of bytes.
pub fn safetensors(tensors: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut at, mut entries) = (0, vec![r#""__metadata__":{"format":"pt"}"#.to_string()]);
    for (name, data) in tensors {
        let end = at + data.len();
        entries.push(format!(
            r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{at},{end}]}}"#,
            data.len()
        ));
        at = end;
    }
    let json = format!("{{{}}}", entries.join(","));
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json.as_bytes());
    tensors.iter().for_each(|(_, data)| out.extend(*data));
    out
}

/// A picture of whole pixels: its header and noise.
pub fn picture(header: &str, data: usize) -> Vec<u8> {
    [header.as_bytes(), &bytes(data, 5)].concat()
}

/// Sources of all kinds, well-formed and not; every one is cut in every modality.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let noise = bytes(150_000, 1);
    let torn_wave = wave(4, &noise)[..1000].to_vec();
    let mut long_header = safetensors(&[("a", &noise)]);
    long_header.splice(
        8..9,
        format!("{{\"__metadata__\":{{\"a\":\"{}\"}},", "x".repeat(100_000)).bytes(),
    );
    let length = (long_header.len() - 8 - noise.len()) as u64;
    long_header[..8].copy_from_slice(&length.to_le_bytes());
    vec![
        ("nothing", vec![]),
        ("one byte", vec![b'x']),
        ("one line end", vec![b'\n']),
        ("noise", noise.clone()),
        ("zeros", vec![0; 140_001]),
        ("prose", prose(50_000, 2)),
        (
            "windows line ends",
            String::from_utf8(prose(50_000, 3))
                .unwrap()
                .replace('\n', "\r\n")
                .into_bytes(),
        ),
        ("only carriage returns", vec![b'\r'; 10_000]),
        ("only line ends", vec![b'\n'; 10_000]),
        ("blank lines of spaces", b" \t\n".repeat(3_000)),
        ("only spaces", vec![b' '; 10_000]),
        ("one line", one_line(50_000, 4)),
        ("one word", one_word(50_000, 4)),
        ("values", values(50_000, 4)),
        ("ideographs", ideographs(50_000, 4)),
        ("continuations of UTF-8", vec![0x80; 10_000]),
        (
            "lines of 63 to 66 bytes",
            (0..400)
                .flat_map(|i| [vec![b'a'; 62 + i % 4], b"\r\n".to_vec()].concat())
                .collect(),
        ),
        ("wave", wave(4, &noise)),
        ("wave of odd frames", wave(6, &noise[..149_999])),
        ("wave without samples", wave(4, &[])),
        ("wave of no frames", wave(0, &noise)),
        ("torn wave", torn_wave),
        ("riff alone", b"RIFF\0\0\0\0WAVEdata".to_vec()),
        (
            "grey picture",
            picture("P5\n# a comment\n300 200\n255\n", 60_000),
        ),
        ("picture", picture("P6 100 200 65535\n", 120_000)),
        (
            "picture with transparency",
            picture(
                "P7\nWIDTH 100\nHEIGHT 200\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n",
                80_000,
            ),
        ),
        ("torn picture", picture("P6 30000 20000 255\n", 100_000)),
        (
            "picture too large to be",
            picture("P6 18446744073709551615 2 255\n", 1_000),
        ),
        ("picture of nothing", picture("P6 0 0 255\n", 1_000)),
        (
            "tensors",
            safetensors(&[
                ("a", &noise),
                ("b", &noise[..999]),
                ("c", &[]),
                ("d", &noise[5..]),
            ]),
        ),
        ("no tensors", safetensors(&[])),
        ("header longer than a leaf", long_header),
        (
            "header longer than the file",
            [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
        ),
    ]
}

/// One source with a known format for each modality, with its unit and where the units begin and end.
pub fn with_units() -> Vec<(Modality, Vec<u8>, usize, usize, usize)> {
    let noise = bytes(300_000, 1);
    let wave = wave(6, &noise);
    let start = wave.len() - noise.len() - 16;
    let header = "P6 300 200 65535\n";
    let picture = picture(header, 360_007);
    vec![
        (Modality::Audio, wave, 6, start, start + noise.len()),
        (
            Modality::Image,
            picture,
            6,
            header.len(),
            header.len() + 360_000,
        ),
    ]
}
