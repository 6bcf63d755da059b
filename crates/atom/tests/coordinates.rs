//! Coordinates of contents: golden numbers, a second way to compute each, cuts anywhere, and that similar contents are
//! close together.
#![allow(clippy::unwrap_used)]

use modelstore_atom::coordinates::{Coordinates, coordinates};
use modelstore_atom::{AXIS_BITS, Modality};
use proptest::prelude::*;

#[path = "coordinates/reference.rs"]
mod reference;

/// The file describes its columns.
const GOLDEN: &str = include_str!("golden/coordinates.txt");
/// Lines of it.
const COUNT: usize = 56;
/// The last value of an axis.
const END: u128 = (1 << AXIS_BITS) - 1;

mod golden {
    use super::*;

    /// Bytes of SplitMix64.
    pub fn random(seed: u64, count: usize) -> Vec<u8> {
        let numbers = (1u64..).map(|i| {
            let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ z >> 31
        });
        numbers.flat_map(u64::to_le_bytes).take(count).collect()
    }

    fn part(part: &str) -> Vec<u8> {
        let (part, times) = match part.rsplit_once(" * ") {
            Some((part, times)) => (part, times.parse().unwrap()),
            None => (part, 1),
        };
        let (kind, value) = part.split_once(' ').unwrap();
        let bytes: Vec<u8> = match kind {
            "text" => value.replace("\\n", "\n").replace("\\t", "\t").into(),
            "hex" => (0..value.len() / 2)
                .map(|i| u8::from_str_radix(&value[2 * i..2 * i + 2], 16).unwrap())
                .collect(),
            "i16" => value
                .split(',')
                .flat_map(|n| n.parse::<i16>().unwrap().to_le_bytes())
                .collect(),
            "f32" => value
                .split(',')
                .flat_map(|n| n.parse::<f32>().unwrap().to_le_bytes())
                .collect(),
            "random" => {
                let (seed, count) = value.split_once(' ').unwrap();
                random(seed.parse().unwrap(), count.parse().unwrap())
            }
            _ => panic!("{kind}"),
        };
        bytes.repeat(times)
    }

    /// Line, modality, content, coordinates.
    pub fn lines() -> impl Iterator<Item = (&'static str, Modality, Vec<u8>, [u32; 3])> {
        let lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| {
            let [modality, content, x, y, z] =
                line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let content = content.split(" + ").flat_map(part).collect();
            let numbers = [x, y, z].map(|number| number.parse().unwrap());
            (
                line,
                Modality::from_name(modality).unwrap(),
                content,
                numbers,
            )
        })
    }
}

#[test]
fn golden_numbers_never_change() {
    let mut count = 0;
    for (line, modality, content, expected) in golden::lines() {
        let found = coordinates(modality, &content);
        assert_eq!(found, expected, "{line}: {found:?}");
        count += 1;
    }
    assert_eq!(count, COUNT);
}

/// Against the reference.
fn check(modality: Modality, content: &[u8]) {
    let (expected, within) = reference::coordinates(modality, content);
    let found = coordinates(modality, content);
    for axis in 0..3 {
        let (expected, found) = (expected[axis].min(END), u128::from(found[axis]));
        assert!(
            found.abs_diff(expected) <= within[axis],
            "{modality:?}, axis {axis}: {found}, not {expected}"
        );
    }
}

#[test]
fn golden_contents_are_where_the_reference_has_them() {
    for (_, modality, content, _) in golden::lines() {
        check(modality, &content);
    }
}

fn modalities() -> impl Strategy<Value = Modality> {
    (0..8i64).prop_map(|number| Modality::from_number(number).unwrap())
}

/// Bytes of every kind: any, those of text, samples near 0, weights.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ \t\r\n]{0,6}(\\PC|[a-zA-Z0-9 \n(){};:,.\"é€]){0,200}";
    let samples = prop::collection::vec(-300i16..300, 0..2000);
    let weights = prop::collection::vec(-2.0f32..2.0, 0..500);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..6000),
        text.prop_map(String::into_bytes),
        samples.prop_map(|all| all.into_iter().flat_map(i16::to_le_bytes).collect()),
        weights.prop_map(|all| all.into_iter().flat_map(f32::to_le_bytes).collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn cuts_make_no_difference(
        modality in modalities(),
        content in contents(),
        pieces in prop::collection::vec(prop_oneof![0..4usize, 0..70usize, 0..5000usize], 1..20),
    ) {
        let whole = coordinates(modality, &content);
        prop_assert!(whole.iter().all(|c| c >> AXIS_BITS == 0));
        let mut cut = Coordinates::new(modality);
        let mut rest = &content[..];
        for piece in pieces.into_iter().chain([content.len()]) {
            let (head, tail) = rest.split_at(piece.min(rest.len()));
            cut.update(head);
            // A copy goes on from where it was taken.
            cut = cut.clone();
            rest = tail;
        }
        prop_assert_eq!(cut.finish(), whole);
        let mut single = Coordinates::new(modality);
        content.iter().for_each(|byte| single.update(&[*byte]));
        prop_assert_eq!(single.finish(), whole);
    }

    #[test]
    fn any_content_is_where_the_reference_has_it(modality in modalities(), content in contents()) {
        // Words of any size are more than two ways of rounding agree on.
        prop_assume!(modality != Modality::Tensor);
        check(modality, &content);
    }

    #[test]
    fn weights_are_where_the_reference_has_them(
        weights in prop::collection::vec((-2.0f32..2.0, 0..50u8), 0..500),
        scale in 0.001f32..10.0,
    ) {
        let words = weights.iter().map(|&(weight, kind)| match kind {
            0 => f32::NAN,
            1 => f32::NEG_INFINITY,
            _ => weight * scale,
        });
        check(Modality::Tensor, &words.flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
    }
}

#[test]
fn every_cut_in_two_inside_characters_samples_and_words() {
    for (line, modality, content, expected) in golden::lines() {
        if content.len() > 100 {
            continue;
        }
        for at in 0..=content.len() {
            let mut coordinates = Coordinates::new(modality);
            coordinates.update(&content[..at]);
            coordinates.update(&content[at..]);
            assert_eq!(coordinates.finish(), expected, "{line} cut at {at}");
        }
    }
}

#[test]
fn empty_contents_are_at_the_origin() {
    for modality in Modality::ALL {
        assert_eq!(coordinates(modality, b""), [0; 3]);
    }
    assert_eq!(coordinates(Modality::Audio, b"1"), [0; 3]);
    assert_eq!(coordinates(Modality::Tensor, b"123"), [0; 3]);
    let nan = f32::NAN.to_le_bytes();
    assert_eq!(coordinates(Modality::Tensor, &nan), [0; 3]);
}

/// How far apart on an axis.
fn apart(modality: Modality, axis: usize, a: &[u8], b: &[u8]) -> u32 {
    coordinates(modality, a)[axis].abs_diff(coordinates(modality, b)[axis])
}

/// That a and b are at most a tenth as far apart as a and c.
#[track_caller]
fn nearer(modality: Modality, axis: usize, a: &[u8], b: &[u8], c: &[u8]) {
    let (ab, ac) = (apart(modality, axis, a, b), apart(modality, axis, a, c));
    assert!(u64::from(ab) * 10 <= ac.into(), "{ab} and {ac}");
}

#[test]
fn like_lies_by_like_in_what_is_written() {
    use Modality::{Code, Structured, Text};
    nearer(Text, 0, b"hello world", b"hello there", b"zebra");
    nearer(Text, 0, b"hello world", b"  Help", b"apple");
    let [a, b, c] = ["привет", "природа", "zebra"].map(str::as_bytes);
    nearer(Text, 0, a, b, c);
    let [a, b, c] = ["мир и труд", "война и мир", "war and peace"].map(str::as_bytes);
    nearer(Text, 1, a, b, c);
    // One dash does not make another script of it.
    let [a, b, c] = ["a dash — that is all", "a dash that is all", "мир"].map(str::as_bytes);
    assert!(apart(Text, 1, a, b) < apart(Text, 1, a, c) / 4);
    nearer(Text, 2, &[b'a'; 1000], &[b'b'; 1010], &[b'a'; 100]);
    nearer(Code, 1, b"    a = f(x)", b"    b = g(y)", b"\t\t\tc = h(z)");
    let object = br#"{"name": "Ada"}"#;
    let list = br#"[ {"name": "Grace"}, {}]"#;
    nearer(Structured, 0, object, list, br#"{"year": 1815}"#);
    nearer(Structured, 1, b"1,2,3", b"4.5;9", b"born in London");
}

#[test]
fn like_lies_by_like_in_what_is_measured() {
    let wave = |period: usize, height: i16| -> Vec<u8> {
        let sample = |i: usize| {
            if i % period < period / 2 {
                height
            } else {
                -height
            }
        };
        (0..8000).flat_map(|i| sample(i).to_le_bytes()).collect()
    };
    for axis in [0, 2] {
        nearer(
            Modality::Audio,
            axis,
            &wave(100, 9000),
            &wave(40, 9100),
            &wave(100, 900),
        );
    }
    nearer(
        Modality::Audio,
        1,
        &wave(100, 9000),
        &wave(102, 50),
        &wave(20, 9000),
    );
    let picture = |pixel: [u8; 3]| pixel.repeat(500);
    let (red, dark_red, blue) = ([250, 20, 10], [240, 22, 11], [10, 20, 250]);
    for axis in [0, 2] {
        nearer(
            Modality::Image,
            axis,
            &picture(red),
            &picture(dark_red),
            &picture(blue),
        );
    }
    let weights = |deviation: f32, mean: f32| -> Vec<u8> {
        let values = (0..4000).map(|i| mean + if i % 2 == 0 { deviation } else { -deviation });
        values.flat_map(f32::to_le_bytes).collect()
    };
    let tensor = Modality::Tensor;
    nearer(
        tensor,
        0,
        &weights(0.02, 0.0),
        &weights(0.05, 0.0001),
        &weights(0.02, 0.01),
    );
    for axis in [1, 2] {
        nearer(
            tensor,
            axis,
            &weights(0.02, 0.0),
            &weights(0.0201, 0.0),
            &weights(0.2, 0.0),
        );
    }
    let (random, other_random) = (golden::random(1, 5000), golden::random(2, 5000));
    let ramp: Vec<u8> = (0..5000).map(|i| (i / 20) as u8).collect();
    nearer(Modality::Other, 2, &random, &other_random, &ramp);
}

/// So many bytes of a block again and again.
fn long(modality: Modality, word: &[u8]) -> [u32; 3] {
    // Without optimisation a gigabyte takes minutes.
    let blocks = if cfg!(debug_assertions) { 8 } else { 1024 };
    let block: Vec<u8> = word.iter().copied().cycle().take(1 << 20).collect();
    let mut coordinates = Coordinates::new(modality);
    (0..blocks).for_each(|_| coordinates.update(&block));
    coordinates.finish()
}

#[test]
fn long_contents_of_the_largest_values() {
    let end = END as u32;
    // log2(1 + 2^23) is a little above 23; above 30, less than a step.
    let length = if cfg!(debug_assertions) {
        (23 << 23) + 1
    } else {
        30 << 23
    };
    let ones = |modality| long(modality, &[255]);
    let (text, code) = (ones(Modality::Text), ones(Modality::Code));
    assert_eq!(text, [end, (1 << 26) + (1 << 27) + (127 << 19), length]);
    assert_eq!(code, [end, 0, length]);
    assert_eq!(ones(Modality::Structured), [end, 0, length]);
    assert_eq!(ones(Modality::Audio), [1 << 24, 0, 1 << 24]);
    assert_eq!(ones(Modality::Image), [end; 3]);
    assert_eq!(ones(Modality::Tensor), [0; 3]);
    for modality in [Modality::Video, Modality::Other] {
        assert_eq!(ones(modality), [end, 0, 0]);
        assert_eq!(long(modality, &[0, 255]), [end / 2, end, end]);
    }
    let loudest = (15 << 24) + (1 << 9);
    let lowest = i16::MIN.to_le_bytes();
    assert_eq!(long(Modality::Audio, &lowest), [loudest, 0, loudest]);
    let [x, y, z] = long(Modality::Tensor, &f32::MAX.to_le_bytes());
    assert_eq!([x, z], [end; 2]);
    assert!(y <= end);
    assert_eq!(
        long(Modality::Structured, b"7"),
        [24 << 21 | 24 << 14 | 24 << 7 | 24, end, length]
    );
    // White space without end.
    assert_eq!(long(Modality::Code, b" "), [0, 15 << 24, length]);
}
