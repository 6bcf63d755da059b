//! Nearest neighbours of many points in one call.
//!
//! Few points are searched one by one. For many points it is cheaper to read the atoms once into a tree in memory, if
//! they fit into `maintenance_work_mem`.

use crate::atom::places::StoredPlaces;
use crate::error::Result;
use crate::pg::arguments::maybe_text;
use crate::store::Store;
use modelstore_atom::spatial::{NearAtom, PackedTree, nearest};
use modelstore_atom::{Key, Modality, Point};
use pgrx::pg_sys;

/// Rows that can be read into a tree in the time of one search of the table.
const ROWS_PER_SEARCH: i64 = 300;
/// Memory per row while a tree is built.
const BYTES_PER_ROW: i64 = 48;

/// Returns the `k` nearest atoms of each point.
pub fn nearest_of_many(
    store: &Store,
    points: &[Point],
    k: usize,
    modality: Option<Modality>,
) -> Result<Vec<Vec<NearAtom>>> {
    let mut places = StoredPlaces::open(store)?;
    if !is_worth_a_tree(store, points.len(), modality)? {
        return points
            .iter()
            .map(|point| nearest(&mut places, point, k, modality))
            .collect();
    }
    let tree = read(&mut places, modality)?;
    let mut found = Vec::new();
    points
        .iter()
        .map(|point| {
            pgrx::check_for_interrupts!();
            tree.nearest(point, k, &mut found);
            found
                .iter()
                .map(|n| {
                    Ok(NearAtom {
                        distance_squared: n.distance_squared,
                        point: n.point,
                        key: Key::new(Modality::from_number(n.payload.into())?, n.point)?,
                    })
                })
                .collect()
        })
        .collect()
}

/// Returns whether reading all atoms costs less than this many searches. Uses the planner's statistics, which may be
/// missing.
#[allow(unsafe_code)]
fn is_worth_a_tree(store: &Store, searches: usize, modality: Option<Modality>) -> Result<bool> {
    if searches < 32 {
        return Ok(false);
    }
    let pages_and_rows = store.row(
        "SELECT coalesce(sum(c.relpages), 0)::bigint, coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint,
                coalesce(sum(pg_relation_size(c.oid)), 0)::bigint / current_setting('block_size')::bigint
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = $1 AND ($2 IS NULL OR split_part(c.relname, '_', 3) = $2)",
        &[
            store.relation_oid("atoms").into(),
            maybe_text(modality.map(Modality::name)),
        ],
        |row| Ok((row.get::<i64>(1)?, row.get::<i64>(2)?, row.get::<i64>(3)?)),
    )?;
    let (pages_then, rows_then, pages) = pages_and_rows.unwrap_or_default();
    // As the planner does: the rows per page of the last ANALYZE, or as many as fit.
    let rows = match pages_then {
        0 => pages * 40,
        _ => (rows_then as f64 / pages_then as f64 * pages as f64) as i64,
    };
    // SAFETY: reads a setting.
    let memory = i64::from(unsafe { pg_sys::maintenance_work_mem }) * 1024;
    Ok(rows < searches as i64 * ROWS_PER_SEARCH && rows * BYTES_PER_ROW < memory)
}

fn read(places: &mut StoredPlaces, modality: Option<Modality>) -> Result<PackedTree> {
    let mut points = Vec::new();
    places.all(modality, |key| {
        let (modality, point) = key.parts()?;
        points.push((point, modality as u32));
        Ok(())
    })?;
    Ok(PackedTree::build(points))
}
