//! Any bytes are cut into leaves that are those bytes, whatever is shown behind them; the tree over them puts them together.
//! The first byte of the input is the modality.

use modelstore_atom::coordinates::{Coordinates, coordinates};
use modelstore_atom::cut::{Cutter, HEAD_BYTES, LOOKAHEAD, Leaf};
use modelstore_atom::key::m_of;
use modelstore_atom::tree::{Content, ContentHash, MAX_CHILDREN, TreeBuilder};
use modelstore_atom::{AXIS_BITS, Key, Modality, Point};
use std::collections::HashMap;
use std::convert::Infallible;

/// Panics where a promise does not hold.
pub fn check(input: &[u8]) {
    let Some((first, source)) = input.split_first() else {
        return;
    };
    let modality = Modality::ALL[usize::from(*first) % Modality::ALL.len()];
    let leaves = leaves(modality, source, LOOKAHEAD);
    assert_eq!(leaves, self::leaves(modality, source, usize::MAX));
    if modality.has_lines() {
        assert!(leaves.iter().all(|leaf| leaf.len <= 16 << 10));
    }
    tree(modality, source, &leaves);
}

fn leaves(modality: Modality, source: &[u8], window: usize) -> Vec<Leaf> {
    let head = &source[..source.len().min(HEAD_BYTES)];
    let mut cutter = Cutter::new(modality, head, source.len() as u64);
    let (mut rest, mut leaves) = (source, Vec::new());
    while !rest.is_empty() {
        let leaf = cutter.next(&rest[..rest.len().min(window)]);
        assert!((1..=rest.len().min(LOOKAHEAD)).contains(&leaf.len));
        rest = &rest[leaf.len..];
        leaves.push(leaf);
    }
    leaves
}

/// What each atom stands for, its bytes or its parts.
enum Atom {
    Leaf(Vec<u8>),
    Composite(Vec<ContentHash>),
}

fn tree(modality: Modality, source: &[u8], leaves: &[Leaf]) {
    let mut atoms = HashMap::new();
    let mut builder = TreeBuilder::new(Coordinates::new(modality));
    let mut sink = |node: modelstore_atom::tree::Node<'_, [u32; 3]>| {
        let atom = match node.content {
            Content::Leaf(bytes) => {
                assert_eq!(node.features, coordinates(modality, bytes));
                Atom::Leaf(bytes.to_vec())
            }
            Content::Composite(parts) => {
                assert!((2..=MAX_CHILDREN).contains(&parts.len()));
                Atom::Composite(parts.to_vec())
            }
        };
        assert!(node.features.iter().all(|c| c >> AXIS_BITS == 0));
        let [x, y, z] = node.features;
        let point = Point {
            x,
            y,
            z,
            m: m_of(&node.hash, 0),
        };
        let key = Key::new(modality, point).expect("coordinates are in range");
        assert_eq!(key.parts().expect("a key"), (modality, point));
        atoms.insert(node.hash, atom);
        Ok::<(), Infallible>(())
    };
    let mut rest = source;
    for leaf in leaves {
        let (bytes, after) = rest.split_at(leaf.len);
        builder
            .leaf(bytes, leaf.ends_group, &mut sink)
            .expect("infallible");
        rest = after;
    }
    let root = builder.finish(&mut sink).expect("infallible");
    let mut whole = Vec::new();
    put_together(&atoms, &root, &mut whole);
    assert!(whole == source);
}

fn put_together(atoms: &HashMap<ContentHash, Atom>, atom: &ContentHash, whole: &mut Vec<u8>) {
    match &atoms[atom] {
        Atom::Leaf(bytes) => whole.extend_from_slice(bytes),
        Atom::Composite(parts) => parts
            .iter()
            .for_each(|part| put_together(atoms, part, whole)),
    }
}
