//! Keys and places of atoms in SQL.

use crate::error::{Code, Failure, Result, or_raise};
use modelstore_atom::spatial::place;
use modelstore_atom::{Key, Modality, Point};
use pgrx::prelude::*;

/// Places that a content may be looked up at: far more than ever collide.
pub const MAX_PROBES: u32 = 1 << 15;

/// Returns the modality of this name; `None` for NULL.
pub fn modality_argument(modality: Option<&str>) -> Result<Option<Modality>> {
    Ok(modality.map(Modality::from_name).transpose()?)
}

#[pg_extern(immutable, strict, parallel_safe)]
fn atom_key(
    modality: &str,
    x: i32,
    y: i32,
    z: i32,
    m: i32,
) -> TableIterator<'static, (name!(h_xy, i64), name!(h_yz, i64), name!(h_zm, i64))> {
    let key = or_raise((|| {
        let point = Point::new([x, y, z, m].map(i64::from))?;
        Ok(Key::new(Modality::from_name(modality)?, point)?)
    })());
    TableIterator::once((key.h_xy, key.h_yz, key.h_zm))
}

#[pg_extern(immutable, strict, parallel_safe)]
fn atom_point(
    h_xy: i64,
    h_yz: i64,
    h_zm: i64,
) -> TableIterator<
    'static,
    (
        name!(modality, &'static str),
        name!(x, i32),
        name!(y, i32),
        name!(z, i32),
        name!(m, i32),
    ),
> {
    let (modality, point) = or_raise(Key { h_xy, h_yz, h_zm }.parts().map_err(Failure::from));
    let [x, y, z, m] = point.coordinates().map(|c| c as i32);
    TableIterator::once((modality.name(), x, y, z, m))
}

/// The expression of the index `atoms_place_idx`. It raises for three numbers that are not a key, and so keeps them out
/// of the table.
#[pg_extern(immutable, strict, parallel_safe)]
fn atom_place(h_xy: i64, h_yz: i64, h_zm: i64) -> i64 {
    let (_, point) = or_raise(Key { h_xy, h_yz, h_zm }.parts().map_err(Failure::from));
    place(&point)
}

/// Converts a hash column, which must have 32 bytes.
pub fn content_hash_of(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| {
        Failure::new(
            Code::ERRCODE_STRING_DATA_LENGTH_MISMATCH,
            format!("content hash of {} bytes", bytes.len()),
        )
        .detail("A BLAKE3-256 hash has 32 bytes.")
    })
}

/// Returns the name of an atom in messages.
pub fn name(key: Key) -> String {
    format!("({}, {}, {})", key.h_xy, key.h_yz, key.h_zm)
}

/// Returns the error for an atom that does not exist.
pub fn missing(key: Key) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("atom {} does not exist", name(key)),
    )
    .detail("It is not in the table of atoms, or a policy hides it.")
}
