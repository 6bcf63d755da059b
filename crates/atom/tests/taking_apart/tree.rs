//! Trees: every atom has the hash and the features of its bytes, and the source comes out again.

use std::collections::HashSet;
use std::convert::Infallible;

use modelstore_atom::Modality;
use modelstore_atom::tree::{Content, Features, Node, TreeBuilder};
use proptest::prelude::*;

use crate::{Atom, Store, Summary, cut::small_sources, sources};

/// What the source's bytes give, all at once.
fn summary(bytes: &[u8]) -> Summary {
    let mut summary = Summary::default();
    summary.update(bytes);
    summary
}

/// Every atom of a store has the hash of its bytes.
fn check_hashes(store: &Store) {
    for hash in store.atoms.keys() {
        assert_eq!(blake3::hash(&store.get(hash)).as_bytes(), hash);
    }
}

#[test]
fn sources_come_out_as_they_went_in() {
    for (name, source) in sources::all() {
        for modality in Modality::ALL {
            let mut store = Store::default();
            let (root, new) = store.put(modality, &source);
            assert!(store.get(&root) == source, "{name} as {}", modality.name());
            check_hashes(&store);
            assert!(new >= 1);
            assert_eq!(
                store.put(modality, &source),
                (root, 0),
                "{name}: the same again"
            );
        }
    }
}

#[test]
fn nothing_is_a_leaf_of_no_bytes() {
    let mut store = Store::default();
    let (root, new) = store.put(Modality::Text, b"");
    assert_eq!((new, &store.atoms[&root]), (1, &Atom::Leaf(vec![])));
    assert_eq!(&root, blake3::hash(b"").as_bytes());
}

#[test]
fn one_leaf_is_the_root() {
    for source in [&b"x"[..], b"a line\n", b"\n"] {
        let mut store = Store::default();
        let (root, new) = store.put(Modality::Text, source);
        assert_eq!(
            (new, &store.atoms[&root]),
            (1, &Atom::Leaf(source.to_vec()))
        );
    }
}

/// Features and lengths of each node, at every place of the source, from leaves of such lengths.
fn check_nodes(source: &[u8], lengths: impl Iterator<Item = (usize, bool)>) {
    let mut store = Store::default();
    let mut nodes = 0;
    let mut sink = |node: Node<'_, Summary>| {
        let atom = match node.content {
            Content::Leaf(bytes) => Atom::Leaf(bytes.to_vec()),
            Content::Composite(children) => Atom::Composite(children.to_vec()),
        };
        store.atoms.entry(node.hash).or_insert(atom);
        let bytes = store.get(&node.hash);
        assert_eq!(node.byte_length, bytes.len() as u64);
        assert_eq!(node.features, summary(&bytes));
        assert_eq!(&node.hash, blake3::hash(&bytes).as_bytes());
        nodes += 1;
        Ok::<(), Infallible>(())
    };
    let mut builder = TreeBuilder::new(Summary::default());
    let mut rest = source;
    for (len, ends_group) in lengths {
        if rest.is_empty() {
            break;
        }
        let (leaf, after) = rest.split_at(len.min(rest.len()));
        builder.leaf(leaf, ends_group, &mut sink).unwrap();
        rest = after;
    }
    let root = builder.finish(&mut sink).unwrap();
    assert_eq!(store.get(&root), &source[..source.len() - rest.len()]);
    assert!(nodes > 0);
}

#[test]
fn features_are_those_of_the_bytes() {
    let noise = sources::bytes(400_000, 3);
    // Short leaves wait before they are seen by the groups above; long ones do not.
    let numbers = || sources::random(9);
    check_nodes(
        &noise[..100_000],
        numbers().map(|n| (1 + n as usize % 64, n >> 60 == 0)),
    );
    check_nodes(
        &noise,
        numbers().map(|n| (1 + n as usize % 65_536, n >> 62 == 0)),
    );
    check_nodes(&noise, numbers().map(|n| (1 << (n % 17), n >> 61 == 0)));
    check_nodes(&vec![0; 50_000], numbers().map(|_| (7, false)));
    check_nodes(&vec![0; 5_000], numbers().map(|_| (7, true)));
}

#[test]
fn an_error_of_the_sink_is_handed_back() {
    let mut builder = TreeBuilder::new(Summary::default());
    assert_eq!(builder.leaf(b"x", false, &mut |_| Err("full")), Err("full"));
    let builder = TreeBuilder::new(Summary::default());
    assert_eq!(builder.finish(&mut |_| Err("full")), Err("full"));
}

#[test]
fn a_leaf_of_no_bytes_is_passed_over() {
    let mut hashes = Vec::new();
    let mut sink = |node: Node<'_, Summary>| {
        hashes.push(node.hash);
        Ok::<(), Infallible>(())
    };
    let mut builder = TreeBuilder::new(Summary::default());
    for leaf in [&b""[..], b"x", b""] {
        builder.leaf(leaf, true, &mut sink).unwrap();
    }
    let root = builder.finish(&mut sink).unwrap();
    assert_eq!(hashes, [root]);
}

#[test]
fn much_of_the_same_is_few_atoms() {
    for modality in Modality::ALL {
        for byte in [0, b'\n', b' ', b'a'] {
            let mut store = Store::default();
            let (root, new) = store.put(modality, &vec![byte; 300_000]);
            assert!(new <= 64, "{new} of {byte} as {}", modality.name());
            assert!(store.depth(&root) <= 24, "{}", store.depth(&root));
        }
    }
}

#[test]
fn trees_are_flat() {
    for (modality, source) in [
        (Modality::Text, sources::prose(500_000, 1)),
        (Modality::Structured, sources::values(500_000, 1)),
        (Modality::Other, sources::bytes(2_000_000, 1)),
    ] {
        let mut store = Store::default();
        let (root, new) = store.put(modality, &source);
        let leaves = store
            .atoms
            .values()
            .filter(|a| matches!(a, Atom::Leaf(_)))
            .count();
        let depth = store.depth(&root);
        println!(
            "{}: {new} atoms, {leaves} leaves, depth {depth}",
            modality.name()
        );
        assert!(depth <= leaves.ilog2() as usize);
    }
}

/// Which atoms there are does not depend on what was there before.
#[test]
fn a_part_that_occurs_twice_is_stored_once() {
    let part = sources::prose(3_000_000, 1);
    let mut store = Store::default();
    let (_, once) = store.put(Modality::Text, &part);
    let twice = [&part[..], b"\n\nand once more:\n\n", &part].concat();
    let (_, new) = store.put(Modality::Text, &twice);
    assert!(new * 20 < once, "{new} new besides {once}");
}

proptest! {
    #[test]
    fn small_sources_come_out(source in small_sources(), number in 0i64..8) {
        let mut store = Store::default();
        let (root, _) = store.put(Modality::from_number(number).unwrap(), &source);
        prop_assert_eq!(store.get(&root), source);
        check_hashes(&store);
    }

    #[test]
    fn any_leaves_make_a_tree(
        lengths in prop::collection::vec((1usize..20, any::<bool>()), 0..300),
        alphabet in 1u8..4,
    ) {
        let total = lengths.iter().map(|(len, _)| len).sum();
        let source: Vec<u8> = sources::bytes(total, 1).into_iter().map(|b| b % alphabet).collect();
        check_nodes(&source, lengths.into_iter());
    }

    /// Two ways to the same leaves give the same atoms.
    #[test]
    fn equal_sources_give_equal_trees(source in small_sources()) {
        let (mut a, mut b) = (Store::default(), Store::default());
        prop_assert_eq!(a.put(Modality::Text, &source), b.put(Modality::Text, &source));
        let keys = |store: &Store| store.atoms.keys().copied().collect::<HashSet<_>>();
        prop_assert_eq!(keys(&a), keys(&b));
    }
}
