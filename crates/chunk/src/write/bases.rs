//! Chooses the bases of deltas.

use std::collections::{BTreeSet, HashMap};

use crate::ChunkHash;
use crate::port::{ChunkStore, MAX_DELTA_DEPTH, Recorded};

/// The chain of a possible base, from that chunk down to the root.
type Path = Vec<(ChunkHash, Recorded)>;

/// The base that a delta may use.
#[derive(Clone, Copy)]
pub struct Usable {
    /// The chunk.
    pub hash: ChunkHash,
    /// The number of deltas below it.
    pub depth: i16,
    /// The delta must be smaller than a chunk without a base divided by this.
    pub share: usize,
}

/// How much smaller than a new root a delta on a root must be that has its share of deltas.
const CROWDED: usize = 2;

/// Returns, for each possible base of a delta, the base to use.
///
/// That is the chunk itself unless its chain is full. Then it is the nearest chunk below it whose deltas together are
/// smaller than it is: once they are as large, a new chunk in its place costs no more than they did, and what follows is
/// nearer to that one. If the root has its share of deltas too, the chunk becomes a root itself, unless it differs little
/// from that one: the deltas may be of others, that will not use the new root.
///
/// Also protects the bases from gc; one that no longer exists is not used. At most [`MAX_DELTA_DEPTH`] + 2 calls of the
/// store.
pub fn bases<S: ChunkStore>(
    store: &mut S,
    wanted: impl Iterator<Item = ChunkHash>,
) -> Result<HashMap<ChunkHash, Usable>, S::Error> {
    let wanted: BTreeSet<ChunkHash> = wanted.collect();
    let mut found = HashMap::new();
    // Each with the chunk that its chain goes on with.
    let mut rest: Vec<(ChunkHash, Path)> =
        wanted.into_iter().map(|base| (base, Vec::new())).collect();
    let mut full: Vec<Path> = Vec::new();
    for _ in 0..=MAX_DELTA_DEPTH {
        let reached: BTreeSet<ChunkHash> = rest.iter().map(|(at, _)| *at).collect();
        let recorded = store.lock(&reached.into_iter().collect::<Vec<_>>())?;
        for (at, mut path) in std::mem::take(&mut rest) {
            let Some(&recorded) = recorded.get(&at) else {
                continue;
            };
            if let (true, Some(base)) = (path.is_empty(), usable(&at, &recorded, 1)) {
                found.insert(at, base);
                continue;
            }
            path.push((at, recorded));
            match recorded.base {
                Some(below) => rest.push((below, path)),
                None => full.push(path),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    let below: BTreeSet<ChunkHash> = full
        .iter()
        .flat_map(|path| path.iter().skip(1))
        .map(|(hash, _)| *hash)
        .collect();
    let deltas = store.bytes_of_deltas(&below.into_iter().collect::<Vec<_>>())?;
    for path in full {
        let below = path.get(1..).unwrap_or_default();
        let has_room = |(hash, recorded): &(ChunkHash, Recorded)| {
            let taken = deltas.get(hash).copied().unwrap_or(0);
            let base = usable(hash, recorded, 1)?;
            (taken < i64::from(recorded.stored_bytes)).then_some(base)
        };
        let crowded = || {
            let (root, recorded) = below.last()?;
            usable(root, recorded, CROWDED)
        };
        let chosen = below.iter().find_map(has_room).or_else(crowded);
        if let (Some((base, _)), Some(chosen)) = (path.first(), chosen) {
            found.insert(*base, chosen);
        }
    }
    Ok(found)
}

/// A chunk as a base, if its chain has room for one more.
fn usable(hash: &ChunkHash, recorded: &Recorded, share: usize) -> Option<Usable> {
    let depth = match recorded.base {
        None => 0,
        Some(_) => recorded.delta_depth,
    };
    (0..MAX_DELTA_DEPTH as i16)
        .contains(&depth)
        .then_some(Usable {
            hash: *hash,
            depth,
            share,
        })
}
