//! Changes of the reference counts of atoms.

use crate::atom::statement::{in_modality, keys};
use crate::error::{Code, Failure, Result};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_atom::Key;
use modelstore_atom::Modality;
use std::collections::BTreeMap;

/// Rows per statement.
const BATCH: usize = 8192;

/// Adds to the reference counts of existing atoms, in the order of their keys.
pub fn add_references(store: &Store, changes: impl IntoIterator<Item = (Key, i64)>) -> Result<()> {
    let mut by_key = BTreeMap::new();
    for (key, change) in changes {
        *by_key.entry(key).or_insert(0) += change;
    }
    let changes: Vec<(Key, i64)> = by_key.into_iter().collect();
    for of_modality in changes.chunk_by(|(a, _), (b, _)| a.h_xy >> 56 == b.h_xy >> 56) {
        let (modality, _) = of_modality[0].0.parts()?;
        for batch in of_modality.chunks(BATCH) {
            in_scratch_memory(|| add(store, modality, batch))?;
            pgrx::check_for_interrupts!();
        }
    }
    Ok(())
}

/// A count that was changed by hand does not drop below 0, which would keep gc from ever finishing.
fn add(store: &Store, modality: Modality, changes: &[(Key, i64)]) -> Result<()> {
    let [h_xy, h_yz, h_zm] = keys(changes.iter().map(|(key, _)| *key));
    let by: Vec<i64> = changes.iter().map(|(_, change)| *change).collect();
    let changed = store.execute(
        &in_modality(
            "UPDATE @store@.atoms a SET ref_count = greatest(a.ref_count + k.by, 0)
             FROM unnest($1, $2, $3, $4) k(h_xy, h_yz, h_zm, by)
             WHERE a.h_xy = k.h_xy AND a.h_yz = k.h_yz AND a.h_zm = k.h_zm
               AND a.h_xy >= @first@ AND a.h_xy < @end@",
            modality,
        ),
        &[h_xy, h_yz, h_zm, by.into()],
    )?;
    if changed == changes.len() {
        return Ok(());
    }
    let missing = changes.len() - changed;
    Err(Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!("{missing} of {} atoms are missing", changes.len()),
    )
    .detail("They are parts of other atoms, or were deleted concurrently."))
}
