//! The parts of composites as rows.

use crate::atom::statement::keys;
use crate::error::Result;
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_atom::Key;

/// Rows per statement.
const BATCH: usize = 8192;

/// A part: the composite, the index of the part in it from 0, and the part.
pub type PartRow = (Key, i32, Key);

/// Writes the parts of new composites.
pub fn insert(store: &Store, mut rows: impl Iterator<Item = PartRow>) -> Result<()> {
    loop {
        let batch: Vec<PartRow> = rows.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(());
        }
        in_scratch_memory(|| {
            let [a, b, c] = keys(batch.iter().map(|row| row.0));
            let indexes: Vec<i32> = batch.iter().map(|row| row.1).collect();
            let [d, e, f] = keys(batch.iter().map(|row| row.2));
            store.execute(
                "INSERT INTO @store@.atom_parts
                     (parent_h_xy, parent_h_yz, parent_h_zm, part_index, h_xy, h_yz, h_zm)
                 SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)",
                &[a, b, c, indexes.into(), d, e, f],
            )
        })?;
        pgrx::check_for_interrupts!();
    }
}
