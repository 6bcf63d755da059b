//! Chooses the bases of deltas.

use std::collections::{BTreeSet, HashMap};

use crate::ChunkHash;
use crate::port::{ChunkStore, MAX_DELTA_DEPTH, Recorded};

/// The chain of a possible base, from that chunk down to the root.
type Path = Vec<(ChunkHash, Recorded)>;

/// Returns, for each possible base of a delta, the base to use, with the number of deltas below it.
///
/// That is the chunk itself unless its chain is full. Then it is the nearest chunk below it whose deltas together are
/// smaller than it is: once they are as large, a new chunk in its place costs no more than they did, and what follows is
/// nearer to that one. None of the chain, if the root has its share of deltas too: the chunk is stored whole and becomes a
/// root.
///
/// Also protects the bases from gc; one that no longer exists is not used. At most [`MAX_DELTA_DEPTH`] + 2 calls of the
/// store.
pub fn bases<S: ChunkStore>(
    store: &mut S,
    wanted: impl Iterator<Item = ChunkHash>,
) -> Result<HashMap<ChunkHash, (ChunkHash, i16)>, S::Error> {
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
            if path.is_empty() && depth_for_a_delta(&recorded).is_some() {
                found.extend(depth_for_a_delta(&recorded).map(|depth| (at, (at, depth))));
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
        let chosen = path.iter().skip(1).find_map(|(hash, recorded)| {
            let taken = deltas.get(hash).copied().unwrap_or(0);
            let depth = depth_for_a_delta(recorded)?;
            (taken < i64::from(recorded.stored_bytes)).then_some((*hash, depth))
        });
        if let (Some((base, _)), Some(chosen)) = (path.first(), chosen) {
            found.insert(*base, chosen);
        }
    }
    Ok(found)
}

/// The number of deltas below a chunk that may have one more on it.
fn depth_for_a_delta(recorded: &Recorded) -> Option<i16> {
    let depth = match recorded.base {
        None => 0,
        Some(_) => recorded.delta_depth,
    };
    (0..MAX_DELTA_DEPTH as i16)
        .contains(&depth)
        .then_some(depth)
}
