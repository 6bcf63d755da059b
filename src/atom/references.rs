//! Releases references to atoms, and deletes atoms that nothing refers to.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::current_store;
use crate::atom::key::{content_hash_of, missing, name};
use crate::atom::reference_counts::add_references;
use crate::atom::security::{is_secured, require_all_visible, salts};
use crate::atom::statement::{codes, in_modality, key_in, keys};
use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_atom::key::{m_of, salted};
use modelstore_atom::{Key, Point};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Atoms deleted per batch.
const BATCH: i64 = 10_000;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn release(atom: Option<AtomArgument>) -> i64 {
    or_raise((|| {
        let key = key_argument(atom, "atom")?;
        let (modality, _) = key.parts()?;
        let store = current_store()?;
        let places = places(&store)?;
        // Take the table lock first, as an ingest does: a gc that holds the table then waits for nobody's rows.
        store.execute("LOCK TABLE ONLY @store@.atoms IN ROW EXCLUSIVE MODE", &[])?;
        // Counts the places with a snapshot taken while nobody else can change the reference count.
        store.write(
            &in_modality(
                "SELECT FROM @store@.atoms
                 WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3 AND h_xy >= @first@ AND h_xy < @end@ FOR UPDATE",
                modality,
            ),
            &codes(key),
            |_| Ok(()),
        )?;
        // References from composites remain: releasing more often than ingesting is refused.
        let left = store.write(
            &in_modality(
                "UPDATE @store@.atoms a SET ref_count = a.ref_count - 1
                 WHERE a.h_xy = $1 AND a.h_yz = $2 AND a.h_zm = $3 AND a.h_xy >= @first@ AND a.h_xy < @end@
                   AND a.ref_count > (@places@)
                 RETURNING a.ref_count",
                modality,
            )
            .replace("@places@", places),
            &codes(key),
            |row| row.get::<i64>(1),
        )?;
        match left.first() {
            Some(&left) => Ok(left),
            None => Err(not_held(&store, key, places)?),
        }
    })())
}

/// Returns a query for how often atom `a` is a part. With row-level security, only rows of its own role count.
fn places(store: &Store) -> Result<&'static str> {
    Ok(if is_secured(store)? {
        "SELECT count(*) FROM @store@.atom_parts p
         WHERE p.h_xy = a.h_xy AND p.h_yz = a.h_yz AND p.h_zm = a.h_zm AND p.created_by = a.created_by"
    } else {
        "SELECT count(*) FROM @store@.atom_parts p WHERE p.h_xy = a.h_xy AND p.h_yz = a.h_yz AND p.h_zm = a.h_zm"
    })
}

/// Returns the error for an atom that cannot be released.
fn not_held(store: &Store, key: Key, places: &str) -> Result<Failure> {
    let there = store.row(
        &"SELECT ref_count, ref_count > (@places@) AND created_by <> current_user
          FROM @store@.atoms a WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3"
            .replace("@places@", places),
        &codes(key),
        |row| Ok((row.get::<i64>(1)?, row.get::<bool>(2)?)),
    )?;
    let atom = name(key);
    Ok(match there {
        None => missing(key),
        Some((_, true)) => Failure::new(
            Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for atom {atom}"),
        )
        .detail("Another role ingested it."),
        Some((count, false)) => Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("atom {atom} is not held"),
        )
        .detail(format!(
            "It was released as often as it was taken in; its {count} references are those of composite atoms."
        )),
    })
}

/// Every batch reads up to [`BATCH`] atoms, and the held ones again.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn atoms_gc() -> TableIterator<'static, (name!(atoms, i64), name!(byte_length, i64))> {
    TableIterator::once(or_raise(collect()))
}

fn collect() -> Result<(i64, i64)> {
    let store = current_store()?;
    require_all_visible(&store, "collect atoms")?;
    // Waits for running ingests and blocks new ones, but not readers.
    store.execute(
        "LOCK TABLE ONLY @store@.atoms IN SHARE ROW EXCLUSIVE MODE",
        &[],
    )?;
    let mut probed = Probed::find(&store)?;
    // With row-level security, a part counts for the role that wrote it: it cannot release references of others.
    let of_its_own = if is_secured(&store)? {
        "WHERE EXISTS (SELECT FROM @store@.atoms a WHERE a.h_xy = gone.h_xy AND a.h_yz = gone.h_yz AND a.h_zm = gone.h_zm
                         AND a.created_by = gone.created_by)"
    } else {
        ""
    };
    let (mut atoms, mut bytes) = (0, 0);
    loop {
        let dead = dead(&store, &probed)?;
        if dead.is_empty() {
            return Ok((atoms, bytes));
        }
        atoms += dead.len() as i64;
        bytes += dead.iter().map(|(_, length)| length).sum::<i64>();
        let gone: Vec<Key> = dead.into_iter().map(|(key, _)| key).collect();
        in_scratch_memory(|| remove(&store, &gone, of_its_own))?;
        gone.iter().for_each(|key| probed.remove(key));
        pgrx::check_for_interrupts!();
    }
}

/// Atoms that are not at the first place of their hash, because other atoms occupied it. The occupants must stay while
/// such atoms exist: a lookup ends at the first empty place.
///
/// Takes time and memory for every passed place: the sum of `probe` over all atoms.
struct Probed {
    passed: HashMap<Key, Vec<Key>>,
    /// The places passed, each with the number of atoms that passed it.
    held: HashMap<Key, usize>,
}

impl Probed {
    fn find(store: &Store) -> Result<Probed> {
        let mut probed = Probed {
            passed: HashMap::new(),
            held: HashMap::new(),
        };
        let (salts, _) = salts(store)?;
        let mut hash = Vec::new();
        store.query(
            "SELECT h_xy, h_yz, h_zm, content_hash, probe, created_by FROM @store@.atoms WHERE probe > 0",
            &[],
            |row| {
                let key = key_in(row, 1)?;
                hash.clear();
                row.append_bytes(4, &mut hash)?;
                let mut hash = content_hash_of(&hash)?;
                let probe = u32::try_from(row.get::<i16>(5)?).unwrap_or_default();
                let (modality, point) = key.parts()?;
                if m_of(&hash, probe) != point.m
                    && let Some(salt) = salts.get(&row.get::<String>(6)?)
                {
                    hash = salted(&hash, salt);
                }
                let mut passed = Vec::new();
                for probe in 0..probe {
                    let m = m_of(&hash, probe);
                    passed.push(Key::new(modality, Point { m, ..point })?);
                }
                for &place in &passed {
                    *probed.held.entry(place).or_default() += 1;
                }
                probed.passed.insert(key, passed);
                Ok(())
            },
        )?;
        Ok(probed)
    }

    /// Removes a deleted atom: the places it passed are then held only by others.
    fn remove(&mut self, key: &Key) {
        for place in self.passed.remove(key).into_iter().flatten() {
            if let Entry::Occupied(mut count) = self.held.entry(place) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// Returns some atoms that nothing refers to, with their lengths.
fn dead(store: &Store, probed: &Probed) -> Result<Vec<(Key, i64)>> {
    let held = probed.held.len() as i64;
    let mut dead = store.write(
        "SELECT h_xy, h_yz, h_zm, byte_length FROM @store@.atoms WHERE ref_count = 0 LIMIT $1",
        &[(BATCH + held).into()],
        |row| Ok((key_in(row, 1)?, row.get::<i64>(4)?)),
    )?;
    dead.retain(|(key, _)| !probed.held.contains_key(key));
    Ok(dead)
}

/// Deletes atoms and releases their references to their parts.
fn remove(store: &Store, gone: &[Key], of_its_own: &str) -> Result<()> {
    let gone_keys = || keys(gone.iter().copied());
    let deleted = store.execute(
        "DELETE FROM @store@.atoms a USING unnest($1, $2, $3) k(h_xy, h_yz, h_zm)
         WHERE a.h_xy = k.h_xy AND a.h_yz = k.h_yz AND a.h_zm = k.h_zm AND a.ref_count = 0",
        &gone_keys(),
    )?;
    if deleted != gone.len() {
        return Err(Failure::new(
            Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "could not serialize access due to a concurrent ingest",
        )
        .detail("An atom to be deleted has gained a reference, or was deleted concurrently.")
        .hint("SELECT * FROM modelstore.atoms_gc();"));
    }
    store.execute(
        "DELETE FROM @store@.atom_chunks c USING unnest($1, $2, $3) k(h_xy, h_yz, h_zm)
         WHERE c.h_xy = k.h_xy AND c.h_yz = k.h_yz AND c.h_zm = k.h_zm",
        &gone_keys(),
    )?;
    store.execute(
        "DELETE FROM @store@.atom_meta_versions v USING unnest($1, $2, $3) k(h_xy, h_yz, h_zm)
         WHERE v.h_xy = k.h_xy AND v.h_yz = k.h_yz AND v.h_zm = k.h_zm",
        &gone_keys(),
    )?;
    let parts = store.write(
        &format!(
            "WITH gone AS (
                 DELETE FROM @store@.atom_parts p USING unnest($1, $2, $3) k(h_xy, h_yz, h_zm)
                 WHERE p.parent_h_xy = k.h_xy AND p.parent_h_yz = k.h_yz AND p.parent_h_zm = k.h_zm
                 RETURNING p.h_xy, p.h_yz, p.h_zm, p.created_by
             )
             SELECT h_xy, h_yz, h_zm, count(*) FROM gone {of_its_own} GROUP BY 1, 2, 3"
        ),
        &gone_keys(),
        |row| Ok((key_in(row, 1)?, -row.get::<i64>(4)?)),
    )?;
    add_references(store, parts)
}
