//! Nearest neighbours of many points in one call.
//!
//! Few points are searched one by one. For many points it is cheaper to read the atoms once into a tree in memory, if
//! they fit into `maintenance_work_mem`. How many rows a search reads depends on where its point is: near the data some
//! hundred, far from it many times as many. So the rows are counted, and when the searches have read as many as there are
//! in the table, the rest is found in a tree: a call reads little more than twice the table.

use crate::atom::places::StoredPlaces;
use crate::error::Result;
use crate::pg::arguments::maybe_text;
use crate::store::Store;
use modelstore_atom::spatial::{NearAtom, PackedTree, nearest};
use modelstore_atom::{Key, Modality, Point};
use pgrx::pg_sys;

/// Rows that can be read into a tree in the time of one search near the data.
const ROWS_PER_SEARCH: u64 = 300;
/// Fewer points are always searched one by one.
const FEW_POINTS: usize = 32;
/// Memory per row while a tree is built.
const BYTES_PER_ROW: u64 = 48;

/// Returns the `k` nearest atoms of each point.
pub fn nearest_of_many(
    store: &Store,
    points: &[Point],
    k: usize,
    modality: Option<Modality>,
) -> Result<Vec<Vec<NearAtom>>> {
    let mut places = StoredPlaces::open(store)?;
    let rows = match points.len() {
        // They take less than the estimate.
        0..FEW_POINTS => None,
        _ => rows_for_a_tree(store, modality)?,
    };
    let mut found: Vec<Vec<NearAtom>> = Vec::with_capacity(points.len());
    for (number, point) in points.iter().enumerate() {
        let ahead = (points.len() - number) as u64 * ROWS_PER_SEARCH;
        if rows.is_some_and(|rows| rows < ahead || rows < places.rows_read()) {
            let tree = read(&mut places, modality)?;
            for point in &points[number..] {
                found.push(in_tree(&tree, point, k)?);
            }
            return Ok(found);
        }
        found.push(nearest(&mut places, point, k, modality)?);
    }
    Ok(found)
}

/// Returns the `k` nearest atoms of a point.
fn in_tree(tree: &PackedTree, point: &Point, k: usize) -> Result<Vec<NearAtom>> {
    pgrx::check_for_interrupts!();
    let mut found = Vec::new();
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
}

/// Returns the number of rows if a tree of them fits into memory. Uses the planner's statistics, which may be missing.
#[allow(unsafe_code)]
fn rows_for_a_tree(store: &Store, modality: Option<Modality>) -> Result<Option<u64>> {
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
    let rows = u64::try_from(rows).unwrap_or_default();
    // SAFETY: reads a setting.
    let memory = u64::try_from(unsafe { pg_sys::maintenance_work_mem }).unwrap_or_default() * 1024;
    Ok(Some(rows).filter(|rows| rows.saturating_mul(BYTES_PER_ROW) < memory))
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
