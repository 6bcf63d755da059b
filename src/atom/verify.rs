//! Compares atoms with their hashes, their places and each other.

use crate::atom::key::content_hash_of;
use crate::atom::reconstruct::Reconstruction;
use crate::atom::security::salts;
use crate::atom::statement::key_in;
use crate::atom::store_for_reading;
use crate::error::{Result, info, or_raise};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_atom::coordinates::coordinates;
use modelstore_atom::key::{m_of, salted};
use modelstore_atom::{Key, Point};
use pgrx::prelude::*;

/// Contradictions between the tables. A part is counted as often as it occurs.
const DISAGREEMENTS: &str = "
    SELECT a.h_xy, a.h_yz, a.h_zm, 'atom has neither a value nor parts nor a chunk'
    FROM @store@.atoms a
    WHERE a.value IS NULL
      AND NOT EXISTS (SELECT FROM @store@.atom_parts p
                      WHERE (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm) = (a.h_xy, a.h_yz, a.h_zm))
      AND NOT EXISTS (SELECT FROM @store@.atom_chunks c WHERE (c.h_xy, c.h_yz, c.h_zm) = (a.h_xy, a.h_yz, a.h_zm))
    UNION ALL
    SELECT p.parent_h_xy, p.parent_h_yz, p.parent_h_zm,
           CASE WHEN bool_or(w.h_xy IS NULL) THEN 'parts of an atom that does not exist'
                WHEN bool_or(w.value IS NOT NULL) THEN 'atom has a value and parts'
                WHEN bool_or(a.h_xy IS NULL) THEN count(*) FILTER (WHERE a.h_xy IS NULL) || ' parts of the atom do not exist'
                WHEN bool_or((p.created_by, p.is_public) <> (w.created_by, w.is_public)) THEN 'parts are shown to other roles than the atom'
                WHEN max(p.part_index) + 1 <> count(*) THEN 'atom has ' || count(*) || ' parts, the last is number ' || max(p.part_index)
                WHEN max(w.byte_length) <> sum(a.byte_length) THEN 'atom has ' || max(w.byte_length) || ' bytes, its parts ' || sum(a.byte_length)
                ELSE 'atom has ' || max(w.line_ends) || ' line ends, its parts ' || sum(a.line_ends) END
    FROM @store@.atom_parts p
    LEFT JOIN @store@.atoms w ON (w.h_xy, w.h_yz, w.h_zm) = (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm)
    LEFT JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (p.h_xy, p.h_yz, p.h_zm)
    GROUP BY 1, 2, 3
    HAVING bool_or(w.h_xy IS NULL OR w.value IS NOT NULL OR a.h_xy IS NULL OR (p.created_by, p.is_public) <> (w.created_by, w.is_public)) OR max(p.part_index) + 1 <> count(*)
        OR max(w.byte_length) <> sum(a.byte_length) OR max(w.line_ends) <> sum(a.line_ends)
    UNION ALL
    SELECT c.h_xy, c.h_yz, c.h_zm,
           CASE WHEN a.h_xy IS NULL THEN 'chunk of an atom that does not exist'
                WHEN a.value IS NOT NULL THEN 'atom has a value and a chunk'
                WHEN (c.created_by, c.is_public) <> (a.created_by, a.is_public) THEN 'chunk is shown to other roles than the atom'
                ELSE 'atom has ' || a.byte_length || ' bytes, its chunk ' || modelstore.raw_size(c.chunk) END
    FROM @store@.atom_chunks c
    LEFT JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (c.h_xy, c.h_yz, c.h_zm)
    WHERE a.h_xy IS NULL OR a.value IS NOT NULL OR (c.created_by, c.is_public) <> (a.created_by, a.is_public)
       OR modelstore.raw_size(c.chunk) <> a.byte_length
    UNION ALL
    SELECT p.parent_h_xy, p.parent_h_yz, p.parent_h_zm, 'atom has a chunk and parts'
    FROM @store@.atom_parts p JOIN @store@.atom_chunks c ON (c.h_xy, c.h_yz, c.h_zm) = (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm)
    WHERE p.part_index = 0
    UNION ALL
    SELECT h_xy, h_yz, h_zm, 'atom of modality ' || modality || ' has ' || CASE WHEN line_ends IS NULL THEN 'no number of' ELSE 'a number of' END || ' line ends'
    FROM @store@.atoms WHERE (line_ends IS NULL) = (modality IN (0, 5, 6))
    UNION ALL
    SELECT v.h_xy, v.h_yz, v.h_zm,
           CASE WHEN a.h_xy IS NULL THEN 'meta of an atom that does not exist' ELSE 'meta is shown to another role than the atom' END
    FROM @store@.atom_meta_versions v
    LEFT JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (v.h_xy, v.h_yz, v.h_zm)
    WHERE a.h_xy IS NULL OR v.created_by <> a.created_by
    UNION ALL
    SELECT h_xy, h_yz, h_zm, 'atom is ' || CASE WHEN is_public THEN '' ELSE 'not ' END || 'public, and its meta says otherwise'
    FROM @store@.atoms WHERE is_public <> (meta ->> 'visibility' IS NOT DISTINCT FROM 'public')
    UNION ALL
    SELECT a.h_xy, a.h_yz, a.h_zm, 'atom has ' || a.ref_count || ' references, and ' || p.places || ' composites or more have it as a part'
    FROM (SELECT h_xy, h_yz, h_zm, count(*) AS places FROM @store@.atom_parts GROUP BY 1, 2, 3) p
    JOIN @store@.atoms a USING (h_xy, h_yz, h_zm)
    WHERE a.ref_count < p.places";

/// Composites and larger leaves that are not part of another atom.
const WHOLES: &str = "
    SELECT a.h_xy, a.h_yz, a.h_zm FROM @store@.atoms a
    WHERE a.value IS NULL
      AND NOT EXISTS (SELECT FROM @store@.atom_parts p WHERE (p.h_xy, p.h_yz, p.h_zm) = (a.h_xy, a.h_yz, a.h_zm))";

/// Reconstructs only atoms that are not parts; these contain all others.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn verify_atoms() -> TableIterator<
    'static,
    (
        name!(h_xy, i64),
        name!(h_yz, i64),
        name!(h_zm, i64),
        name!(problem, String),
    ),
> {
    let problems = or_raise(store_for_reading().and_then(|store| verify(&store)));
    TableIterator::new(
        problems
            .into_iter()
            .map(|(key, problem)| (key.h_xy, key.h_yz, key.h_zm, problem)),
    )
}

fn verify(store: &Store) -> Result<Vec<(Key, String)>> {
    let mut problems = Vec::new();
    let mut atoms = 0;
    let (mut value, mut hash) = (Vec::new(), Vec::new());
    let (salts, are_all) = salts(store)?;
    store.query_by_cursor(
        "SELECT h_xy, h_yz, h_zm, content_hash, value, probe, created_by FROM @store@.atoms",
        |row| {
            atoms += 1;
            let key = key_in(row, 1)?;
            hash.clear();
            row.append_bytes(4, &mut hash)?;
            value.clear();
            let leaf = row.append_bytes(5, &mut value)?.then_some(&value[..]);
            let hash = content_hash_of(&hash)?;
            let probe = u32::try_from(row.get::<i16>(6)?).unwrap_or(u32::MAX);
            let salt = salts.get(&row.get::<String>(7)?);
            let is_place_of_hash = |m| {
                m == m_of(&hash, probe)
                    || salt.map_or(!are_all, |salt| m == m_of(&salted(&hash, salt), probe))
            };
            let problem = wrong_place(key, &hash, leaf, is_place_of_hash)?;
            problems.extend(problem.map(|problem| (key, problem.to_owned())));
            Ok(())
        },
    )?;
    store.query_by_cursor(DISAGREEMENTS, |row| {
        problems.push((key_in(row, 1)?, row.get(4)?));
        Ok(())
    })?;
    let mut wholes = Vec::new();
    store.query_by_cursor(WHOLES, |row| {
        wholes.push(key_in(row, 1)?);
        Ok(())
    })?;
    let mut bytes = 0;
    for key in wholes {
        match in_scratch_memory(|| reconstructed(store, key)) {
            Ok(length) => bytes += length,
            Err(failure) => problems.push((key, failure.message().to_owned())),
        }
        pgrx::check_for_interrupts!();
    }
    info(&format!(
        "verified {atoms} atoms, {bytes} bytes reconstructed: {} problems",
        problems.len()
    ));
    problems.sort_unstable();
    Ok(problems)
}

/// Describes how an atom's key or hash differs from its content, which for a leaf is in the row.
fn wrong_place(
    key: Key,
    hash: &[u8; 32],
    leaf: Option<&[u8]>,
    is_place_of_hash: impl Fn(u32) -> bool,
) -> Result<Option<&'static str>> {
    let Ok((modality, point)) = key.parts() else {
        return Ok(Some("key is that of no place"));
    };
    if let Some(content) = leaf {
        if blake3::hash(content).as_bytes() != hash {
            return Ok(Some("value does not match its BLAKE3 hash"));
        }
        let [x, y, z] = coordinates(modality, content);
        if point != (Point { x, y, z, ..point }) {
            return Ok(Some("place is not that of the value"));
        }
    }
    Ok((!is_place_of_hash(point.m)).then_some("place is not that of the hash"))
}

/// Reconstructs an atom, which checks its hash; returns its length.
fn reconstructed(store: &Store, key: Key) -> Result<u64> {
    let mut parts = Reconstruction::begin(store, key)?;
    let mut bytes = 0;
    while let Some(part) = parts.next()? {
        bytes += part.len() as u64;
    }
    Ok(bytes)
}
