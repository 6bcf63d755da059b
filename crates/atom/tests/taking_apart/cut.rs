//! Leaves: all of the source, wherever it is read in windows, at the units of its format.

use std::collections::HashSet;

use modelstore_atom::Modality;
use modelstore_atom::cut::Cutter;
use proptest::prelude::*;

use crate::{leaves, sources};

/// The least, and the most bytes of a leaf of text.
const TEXT_BYTES: std::ops::RangeInclusive<usize> = 1 << 10..=16 << 10;

fn is_text(modality: Modality) -> bool {
    matches!(
        modality,
        Modality::Text | Modality::Code | Modality::Structured
    )
}

/// The leaves' bytes.
fn parts(modality: Modality, source: &[u8]) -> Vec<&[u8]> {
    let mut rest = source;
    let parts = leaves(modality, source, 0).into_iter().map(|leaf| {
        let (part, after) = rest.split_at(leaf.len);
        rest = after;
        part
    });
    parts.collect()
}

/// Where leaves end, and where groups do.
fn ends(modality: Modality, source: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let (mut at, mut all, mut groups) = (0, Vec::new(), Vec::new());
    for leaf in leaves(modality, source, 0) {
        at += leaf.len;
        all.push(at);
        if leaf.ends_group {
            groups.push(at);
        }
    }
    (all, groups)
}

#[test]
fn leaves_are_the_source_in_every_modality() {
    for (name, source) in sources::all() {
        for modality in Modality::ALL {
            let parts = parts(modality, &source);
            assert!(parts.concat() == source, "{name} as {}", modality.name());
            if is_text(modality) {
                let most = *TEXT_BYTES.end();
                assert!(parts.iter().all(|part| part.len() <= most), "{name}");
            }
        }
    }
}

#[test]
fn what_is_shown_beyond_the_window_does_not_count() {
    for (name, source) in sources::all() {
        for modality in Modality::ALL {
            let exact = leaves(modality, &source, 0);
            for beyond in [1, 4_097, usize::MAX] {
                assert!(
                    leaves(modality, &source, beyond) == exact,
                    "{name} as {}",
                    modality.name()
                );
            }
        }
    }
}

#[test]
fn leaves_of_text_are_whole_lines() {
    let text = sources::prose(1_000_000, 1);
    let parts = parts(Modality::Text, &text);
    let (_, but_last) = parts.split_last().unwrap();
    for part in but_last {
        assert_eq!(part.last(), Some(&b'\n'));
        assert!(TEXT_BYTES.contains(&part.len()), "{}", part.len());
    }
    let mean = text.len() / parts.len();
    assert!((3_000..5_500).contains(&mean), "{mean}");
}

/// The same average, whether lines are short or long.
#[test]
fn the_length_of_lines_does_not_matter() {
    for words in [1, 10, 100] {
        let mut text = sources::one_line(1_000_000, 7);
        let spaces: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b' ').collect();
        spaces
            .iter()
            .step_by(words)
            .for_each(|at| text[*at] = b'\n');
        let mean = text.len() / parts(Modality::Code, &text).len();
        assert!((2_500..6_000).contains(&mean), "{words}: {mean}");
    }
}

#[test]
fn a_short_text_is_one_leaf() {
    let text = b"one\r\ntwo\rstill two\n\n \t\n\nthree\n\nlast";
    assert_eq!(parts(Modality::Text, text), [&text[..]]);
    let text = sources::prose(1_023, 1);
    assert_eq!(parts(Modality::Text, &text), [&text[..]]);
}

#[test]
fn a_long_line_begins_a_leaf_and_ends_one() {
    let line = |len: usize| [sources::one_line(len - 1, 3), b"\n".to_vec()].concat();
    let (long, short) = (line(50_000), line(70));
    let text = [&short[..], &long, &short, &short].concat();
    let parts = parts(Modality::Text, &text);
    assert_eq!(parts[0], short);
    assert_eq!(parts[1..parts.len() - 1].concat(), long);
    assert_eq!(parts[parts.len() - 1], [&short[..], &short].concat());
    assert!(parts.len() > 8);
}

#[test]
fn long_lines_are_cut_after_words() {
    for part in parts(Modality::Text, &sources::one_line(100_000, 1))
        .split_last()
        .unwrap()
        .1
    {
        assert_eq!(part.last(), Some(&b' '));
    }
    let values = sources::values(100_000, 1);
    for part in parts(Modality::Structured, &values).split_last().unwrap().1 {
        assert_eq!(part.last(), Some(&b','));
    }
    let after_comma = |part: &&[u8]| part.last() == Some(&b',');
    assert!(!parts(Modality::Code, &values).iter().all(after_comma));
}

#[test]
fn characters_and_line_ends_are_not_torn() {
    let text = sources::ideographs(100_000, 1);
    let leaves = parts(Modality::Text, &text);
    assert!(leaves.len() > 10);
    assert!(leaves.iter().all(|part| std::str::from_utf8(part).is_ok()));
    // No place in the line but its end selects itself: zeros never do.
    let line = [vec![0; (16 << 10) - 1], b"\r\n".to_vec()].concat();
    assert_eq!(
        parts(Modality::Text, &line),
        [&line[..line.len() - 2], b"\r\n"]
    );
}

#[test]
fn frames_and_pixels_are_not_torn() {
    for (modality, source, unit, start, end) in sources::with_units() {
        let (ends, groups) = ends(modality, &source);
        assert_eq!(ends[0], start, "the header is a leaf");
        assert_eq!(groups, [start, end]);
        let inside: Vec<_> = ends
            .iter()
            .filter(|at| (start..=end).contains(at))
            .collect();
        assert!(inside.len() > 10);
        assert!(inside.iter().all(|at| (*at - start).is_multiple_of(unit)));
    }
}

#[test]
fn a_tensor_gives_the_same_leaves_wherever_it_is() {
    let (a, b) = (sources::bytes(500_001, 1), sources::bytes(77_777, 2));
    let set = |file| {
        parts(Modality::Tensor, file)
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect::<HashSet<_>>()
    };
    let alone = sources::safetensors(&[("w", &a)]);
    let behind = sources::safetensors(&[("other", &b), ("w2", &a), ("more", &b)]);
    let (alone, behind) = (set(&alone), set(&behind));
    assert_eq!(alone.difference(&behind).count(), 1, "the header");
    assert!(alone.len() > 20);
}

#[test]
fn headers_and_tensors_are_groups() {
    let (a, b) = (sources::bytes(100_000, 1), sources::bytes(10, 2));
    let file = sources::safetensors(&[("a", &a), ("empty", &[]), ("b", &b)]);
    let start = file.len() - 100_010;
    let (all, groups) = ends(Modality::Tensor, &file);
    assert_eq!(groups, [start, start + 100_000, start + 100_010]);
    assert_eq!(all[0], start);
    // What is strange about a file makes it bytes: here one byte more than tensors.
    let strange = [file, vec![0]].concat();
    assert_eq!(
        ends(Modality::Tensor, &strange),
        ends(Modality::Other, &strange)
    );
    assert!(ends(Modality::Other, &strange).1.is_empty());
}

/// A file whose length is not what was said is still cut into all of its bytes.
#[test]
fn a_wrong_total_loses_nothing() {
    for (name, source) in sources::all() {
        for modality in Modality::ALL {
            for total in [0, source.len() as u64 / 2, u64::MAX] {
                let mut cutter = Cutter::new(modality, &source[..source.len().min(1 << 20)], total);
                let mut rest = &source[..];
                while !rest.is_empty() {
                    let leaf = cutter.next(rest);
                    assert!((1..=rest.len()).contains(&leaf.len), "{name}");
                    rest = &rest[leaf.len..];
                }
            }
        }
    }
}

/// Bytes in which lines, words, characters of several bytes and formats are frequent.
pub fn small_sources() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..90),
        prop::collection::vec(prop::sample::select(&b" \n\r,ab"[..]), 0..90),
        "[a-z ,é字\n]{0,60}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            b"RIFF\x10\0\0\0WAVE".to_vec(),
            b"fmt \x10\0\0\0\x01\0\x02\0\0\0\0\0\0\0\0\0\x04\0\x10\0".to_vec(),
            b"data\x40\0\0\0".to_vec(),
            b"P6 4 4 255\n".to_vec(),
            b"P5 9 1 999 ".to_vec(),
            [
                &40u64.to_le_bytes()[..],
                br#"{"a":{"data_offsets":[0,9]}}            "#
            ]
            .concat(),
        ]),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn small_sources_are_their_leaves(source in small_sources(), number in 0i64..8) {
        let modality = Modality::from_number(number).unwrap();
        let parts = parts(modality, &source);
        prop_assert_eq!(parts.concat(), &source[..]);
        prop_assert_eq!(leaves(modality, &source, 0), leaves(modality, &source, 100));
        if is_text(modality) {
            prop_assert!(parts.iter().all(|part| part.len() <= *TEXT_BYTES.end()));
        }
    }
}
