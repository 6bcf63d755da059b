//! Row-level security of atoms: roles that share a store and not their data.
//!
//! Policies stand ready in every store (`sql/store/07_atoms.sql`). Once they are on, no role's atoms refer to another's:
//! [`crate::atom::write`] finds only atoms of the role that takes in. Collecting needs to see everything and is for the
//! owner of the tables.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::key::missing;
use crate::atom::statement::codes;
use crate::error::{Code, Failure, Result, or_raise};
use crate::jsonb::Jsonb;
use crate::store::Store;
use crate::store::arguments::maybe_jsonb;
use modelstore_atom::Key;
use pgrx::prelude::*;

/// Tables with policies.
const SECURED: [&str; 4] = ["atoms", "atom_parts", "atom_chunks", "ingestion_log"];

/// The keys of what an atom is made of, at any depth. PostgreSQL keeps each once.
const MADE_OF: &str = "made_of AS (
        SELECT h_xy, h_yz, h_zm FROM @store@.atom_parts
        WHERE parent_h_xy = $1 AND parent_h_yz = $2 AND parent_h_zm = $3
        UNION
        SELECT p.h_xy, p.h_yz, p.h_zm FROM made_of m
        JOIN @store@.atom_parts p ON p.parent_h_xy = m.h_xy AND p.parent_h_yz = m.h_yz AND p.parent_h_zm = m.h_zm
    )";

/// What goes with every change of meta.
const CHANGED: &str = "version = a.version + 1, updated_at = now(), updated_by = current_user";

/// Switches row-level security of the store's atoms on or off, and says which it is. The owner of the tables still sees
/// everything.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn secure_atoms(enable: default!(bool, true)) -> bool {
    or_raise(secure(enable).map(|()| enable))
}

fn secure(enable: bool) -> Result<()> {
    let store = Store::current()?;
    let action = if enable { "ENABLE" } else { "DISABLE" };
    for table in SECURED {
        store.execute(
            &format!("ALTER TABLE @store@.{table} {action} ROW LEVEL SECURITY"),
            &[],
        )?;
    }
    if !enable {
        return Ok(());
    }
    // With a new snapshot: what an ingest wrote while the tables were waited for counts.
    let mixed = store.write(
        "SELECT 1 FROM @store@.atom_parts p
         JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm)
         JOIN @store@.atoms b ON (b.h_xy, b.h_yz, b.h_zm) = (p.h_xy, p.h_yz, p.h_zm)
         WHERE a.created_by <> b.created_by LIMIT 1",
        &[],
        |_| Ok(()),
    )?;
    if mixed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "atoms of one role are made of atoms of another",
    )
    .detail("Roles were not kept apart when they took data in; a role would not see all of its own data.")
    .hint(store.sql("SELECT created_by, count(*) FROM @store@.atoms GROUP BY created_by;")))
}

/// Whether it is on.
pub fn is_secured(store: &Store) -> Result<bool> {
    let on = store.row(
        "SELECT relrowsecurity FROM pg_class WHERE oid = $1",
        &[store.relation_oid("atoms").into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(on.unwrap_or_default())
}

/// An error where policies hide rows from this role, for what must see them all.
pub fn require_all_visible(store: &Store, what: &str) -> Result<()> {
    let hidden = store.row(
        "SELECT row_security_active($1)",
        &[store.relation_oid("atoms").into()],
        |row| row.get::<bool>(1),
    )?;
    if !hidden.unwrap_or_default() {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied to {what}"),
    )
    .detail("Row-level security hides atoms from this role, and what it does not see may be needed. The owner of the tables sees everything."))
}

/// Sets an atom's meta and returns its new version.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_atom_meta(atom: Option<AtomArgument>, meta: Option<Jsonb<'_>>) -> i32 {
    or_raise((|| {
        let key = key_argument(atom, "atom")?;
        set_meta(&Store::current()?, key, meta.as_ref())
    })())
}

fn set_meta(store: &Store, key: Key, meta: Option<&Jsonb<'_>>) -> Result<i32> {
    let [h_xy, h_yz, h_zm] = codes(key);
    let set = store.write(
        &format!(
            "WITH before AS (
                 SELECT meta FROM @store@.atoms WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3 FOR UPDATE
             )
             UPDATE @store@.atoms a SET meta = $4, {CHANGED}
             FROM before WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3
             RETURNING version, before.meta ->> 'visibility' IS NOT DISTINCT FROM 'public',
                       a.meta ->> 'visibility' IS NOT DISTINCT FROM 'public'"
        ),
        &[h_xy, h_yz, h_zm, maybe_jsonb(meta)],
        |row| Ok((row.get::<i32>(1)?, row.get::<bool>(2)?, row.get::<bool>(3)?)),
    )?;
    let Some(&(version, was_public, is_public)) = set.first() else {
        return Err(missing(key));
    };
    // Parts that are public by themselves are not touched by other changes of what they are in.
    if was_public == is_public {
        return Ok(version);
    }
    // Nobody can read an atom without its parts.
    let parts = if is_public {
        format!(
            "WITH RECURSIVE {MADE_OF}
             UPDATE @store@.atoms a
             SET meta = coalesce(a.meta, '{{}}') || '{{\"visibility\": \"public\"}}', {CHANGED}
             FROM made_of m WHERE (a.h_xy, a.h_yz, a.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
               AND a.meta ->> 'visibility' IS DISTINCT FROM 'public'"
        )
    } else {
        // What another public atom is made of stays public.
        format!(
            "WITH RECURSIVE {MADE_OF}, kept AS (
                 SELECT m.h_xy, m.h_yz, m.h_zm FROM made_of m
                 JOIN @store@.atom_parts p ON (p.h_xy, p.h_yz, p.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
                 JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm)
                 WHERE a.meta ->> 'visibility' = 'public'
                   AND NOT EXISTS (SELECT FROM made_of o WHERE (o.h_xy, o.h_yz, o.h_zm) = (a.h_xy, a.h_yz, a.h_zm))
                 UNION
                 SELECT p.h_xy, p.h_yz, p.h_zm FROM kept k
                 JOIN @store@.atom_parts p ON (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm) = (k.h_xy, k.h_yz, k.h_zm)
             )
             UPDATE @store@.atoms a SET meta = nullif(a.meta - 'visibility', '{{}}'), {CHANGED}
             FROM made_of m WHERE (a.h_xy, a.h_yz, a.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
               AND a.meta ->> 'visibility' = 'public'
               AND NOT EXISTS (SELECT FROM kept k WHERE (k.h_xy, k.h_yz, k.h_zm) = (a.h_xy, a.h_yz, a.h_zm))"
        )
    };
    store.execute(&parts, &codes(key))?;
    Ok(version)
}
