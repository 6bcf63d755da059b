//! Keys of atoms in statements: as parameters, in rows, and as ranges that select partitions.

use crate::error::Result;
use crate::pg::query::Row;
use modelstore_atom::key::modality_codes;
use modelstore_atom::{Key, Modality};

/// Returns three bigint parameters.
pub fn codes<'a>(key: Key) -> [pgrx::datum::DatumWithOid<'a>; 3] {
    [key.h_xy.into(), key.h_yz.into(), key.h_zm.into()]
}

/// Returns three bigint[] parameters.
pub fn keys<'a>(keys: impl Iterator<Item = Key>) -> [pgrx::datum::DatumWithOid<'a>; 3] {
    let mut codes = [Vec::new(), Vec::new(), Vec::new()];
    for key in keys {
        codes[0].push(key.h_xy);
        codes[1].push(key.h_yz);
        codes[2].push(key.h_zm);
    }
    codes.map(Into::into)
}

/// Reads the key in three columns of a row, from column `n` on.
pub fn key_in(row: &Row<'_>, n: usize) -> Result<Key> {
    Ok(Key {
        h_xy: row.get(n)?,
        h_yz: row.get(n + 1)?,
        h_zm: row.get(n + 2)?,
    })
}

/// Replaces `@first@` and `@end@` in a statement by the codes of a modality, so that the planner skips the other seven
/// eighths of the partitions.
pub fn in_modality(template: &str, modality: Modality) -> String {
    in_codes(template, modality_codes(modality))
}

/// Replaces `@first@` and `@end@` by the given codes.
pub fn in_codes(template: &str, (first, end): (i64, i64)) -> String {
    template
        .replace("@first@", &first.to_string())
        .replace("@end@", &end.to_string())
}
