//! An edit gives few new atoms, however large the source is.

use std::collections::HashSet;
use std::convert::Infallible;

use modelstore_atom::Modality;
use modelstore_atom::tree::{ContentHash, Node, TreeBuilder};

use crate::{Nothing, leaves, sources};

/// The most atoms that one edit may give: on each level those around it and the way up to the root. Measured are at
/// most a third of it.
const MAX_NEW: usize = 60;

/// The names of a source's atoms.
fn atoms(modality: Modality, source: &[u8]) -> HashSet<ContentHash> {
    let mut atoms = HashSet::new();
    let mut sink = |node: Node<'_, ()>| {
        atoms.insert(node.hash);
        Ok::<(), Infallible>(())
    };
    let mut builder = TreeBuilder::new(Nothing);
    let mut rest = source;
    for leaf in leaves(modality, source, 0) {
        let (bytes, after) = rest.split_at(leaf.len);
        builder.leaf(bytes, leaf.ends_group, &mut sink).unwrap();
        rest = after;
    }
    builder.finish(&mut sink).unwrap();
    atoms
}

/// What an edit takes away, and what it puts there.
type Edit = (usize, &'static [u8]);

/// The last ones change how many leaves there are in text.
const EDITS: [Edit; 6] = [
    (0, b"inserted"),
    (11, b""),
    (7, b"changed"),
    (1, b"\n"),
    (0, b"\n\n"),
    (999, b""),
];

/// The most new atoms of one of the edits, each made in so many places.
fn most_new(modality: Modality, source: &[u8], edits: &[Edit], places: usize) -> usize {
    let before = atoms(modality, source);
    let new = (0..places).flat_map(|place| {
        let at = source.len() / (places + 1) * (place + 1) + 1_001;
        edits.iter().map(move |edit| (at, edit))
    });
    new.map(|(at, (removed, added))| {
        let edited = [&source[..at], added, &source[at + removed..]].concat();
        let new = atoms(modality, &edited).difference(&before).count();
        assert!(new > 0);
        new
    })
    .max()
    .unwrap()
}

fn check(name: &str, modality: Modality, source: impl Fn(usize) -> Vec<u8>) {
    let small = most_new(modality, &source(1 << 20), &EDITS, 2);
    let large = most_new(modality, &source(16 << 20), &EDITS[4..], 1);
    println!("{name}: at most {small} new atoms in 1 MiB, {large} in 16 MiB");
    assert!(small <= MAX_NEW, "{name}: {small}");
    assert!(large <= MAX_NEW, "{name}: {large}");
}

#[test]
fn of_prose() {
    check("prose", Modality::Text, |len| sources::prose(len, 1));
}

#[test]
fn of_bytes() {
    check("bytes", Modality::Other, |len| sources::bytes(len, 1));
}

/// Where there is nothing but one line, its own cuts must find together again.
#[test]
fn of_one_line() {
    type Source = fn(usize, u64) -> Vec<u8>;
    let lines: [(&str, Modality, Source); 4] = [
        ("one line", Modality::Text, sources::one_line),
        ("values", Modality::Structured, sources::values),
        ("one word", Modality::Code, sources::one_word),
        ("ideographs", Modality::Text, sources::ideographs),
    ];
    for (name, modality, source) in lines {
        let most = most_new(modality, &source(1 << 20, 1), &EDITS, 2);
        println!("{name}: at most {most} new atoms in 1 MiB");
        assert!(most <= MAX_NEW, "{name}: {most}");
    }
}
