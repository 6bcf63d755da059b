//! Chooses the bases of deltas.

use std::collections::{BTreeSet, HashMap};

use crate::ChunkHash;
use crate::port::{ChunkStore, MAX_DELTA_DEPTH};

/// Returns, for each possible base of a delta, the base to use, with the number of deltas below it: the chunk itself
/// or, if its chain is full, the root of its chain, where the next chain begins. Also protects them from gc; one that
/// no longer exists is not used. At most [`MAX_DELTA_DEPTH`] + 1 calls of the store.
pub fn bases<S: ChunkStore>(
    store: &mut S,
    wanted: impl Iterator<Item = ChunkHash>,
) -> Result<HashMap<ChunkHash, (ChunkHash, i16)>, S::Error> {
    let wanted: BTreeSet<ChunkHash> = wanted.collect();
    let mut found = HashMap::new();
    // Each with the chunk of its chain reached so far.
    let mut rest: Vec<(ChunkHash, ChunkHash)> =
        wanted.into_iter().map(|base| (base, base)).collect();
    for step in 0..=MAX_DELTA_DEPTH {
        let reached: BTreeSet<ChunkHash> = rest.iter().map(|(_, at)| *at).collect();
        let recorded = store.lock(&reached.into_iter().collect::<Vec<_>>())?;
        rest.retain_mut(|(base, at)| {
            let Some(recorded) = recorded.get(at) else {
                return false;
            };
            let depth = recorded.delta_depth;
            let is_root = recorded.base.is_none();
            if is_root || step == 0 && (0..MAX_DELTA_DEPTH as i16).contains(&depth) {
                found.insert(*base, (*at, if is_root { 0 } else { depth }));
            }
            match recorded.base {
                Some(below) if !found.contains_key(base) => {
                    *at = below;
                    true
                }
                _ => false,
            }
        });
        if rest.is_empty() {
            break;
        }
    }
    Ok(found)
}
