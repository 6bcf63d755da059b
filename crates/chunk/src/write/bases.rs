//! Which chunks new ones are stored as differences to.

use std::collections::{BTreeSet, HashMap};

use crate::ChunkHash;
use crate::port::{ChunkStore, MAX_DELTA_DEPTH};

/// For each chunk that something may be a difference to, the one that it shall be: itself or, when it carries no further
/// delta, the chunk at the root of its chain, from which the next chain begins; with the deltas below that. They are kept
/// from the collector as well; one that is gone by now is not a base.
pub fn bases<S: ChunkStore>(
    store: &mut S,
    wanted: impl Iterator<Item = ChunkHash>,
) -> Result<HashMap<ChunkHash, (ChunkHash, i16)>, S::Error> {
    let wanted: BTreeSet<ChunkHash> = wanted.collect();
    let mut found = HashMap::new();
    // Each with the chunk of its chain that has been reached.
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
