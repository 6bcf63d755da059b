//! Finds an atom by its content, or by the hash of it.

use crate::atom::key::{content_hash_of, modality_argument};
use crate::atom::statement::{in_modality, key_in};
use crate::atom::store_for_reading;
use crate::error::{or_raise, required};
use crate::pg::arguments::bytes;
use modelstore_atom::coordinates::coordinates;
use modelstore_atom::{Key, Modality, Point};
use pgrx::prelude::*;

/// There is no index on hashes: it would take a quarter of the rows' bytes again, and `EXPLAIN` would tell a role whether
/// others have a content.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn find_atom(
    content_hash: Option<&[u8]>,
    modality: default!(Option<&str>, "NULL"),
) -> TableIterator<'static, (name!(h_xy, i64), name!(h_yz, i64), name!(h_zm, i64))> {
    rows(or_raise((|| {
        let hash = content_hash_of(required(content_hash, "content_hash")?)?;
        let modality = modality_argument(modality)?;
        let modalities = modality.map_or(Modality::ALL.to_vec(), |modality| vec![modality]);
        let store = store_for_reading()?;
        for modality in modalities {
            let found = store.row(
                &in_modality(
                    "SELECT h_xy, h_yz, h_zm FROM @store@.atoms
                     WHERE h_xy >= @first@ AND h_xy < @end@ AND content_hash = $1
                     ORDER BY created_by <> current_user, h_xy, h_yz, h_zm LIMIT 1",
                    modality,
                ),
                &[bytes(&hash)],
                |row| key_in(row, 1),
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    })()))
}

/// All places of a content have the same first two codes: those of its coordinates x, y and z.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn find_content(
    content: Option<&[u8]>,
    modality: Option<&str>,
) -> TableIterator<'static, (name!(h_xy, i64), name!(h_yz, i64), name!(h_zm, i64))> {
    rows(or_raise((|| {
        let content = required(content, "content")?;
        let modality = required(modality_argument(modality)?, "modality")?;
        let [x, y, z] = coordinates(modality, content);
        let key = Key::new(modality, Point { x, y, z, m: 0 })?;
        store_for_reading()?.row(
            &in_modality(
                "SELECT h_xy, h_yz, h_zm FROM @store@.atoms
                 WHERE h_xy >= @first@ AND h_xy < @end@ AND h_xy = $1 AND h_yz = $2 AND content_hash = $3
                 ORDER BY created_by <> current_user, h_zm LIMIT 1",
                modality,
            ),
            &[
                key.h_xy.into(),
                key.h_yz.into(),
                bytes(blake3::hash(content).as_bytes()),
            ],
            |row| key_in(row, 1),
        )
    })()))
}

fn rows(
    key: Option<Key>,
) -> TableIterator<'static, (name!(h_xy, i64), name!(h_yz, i64), name!(h_zm, i64))> {
    TableIterator::new(key.map(|key| (key.h_xy, key.h_yz, key.h_zm)))
}
