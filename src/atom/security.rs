//! Row-level security of atoms, for roles that share a store but not their data.
//!
//! `secure_atoms` creates the policies. They compare columns of their own row only, so that they can be distributed:
//! each table has the owner and whether the row is public. Partitions have no policies, so direct queries of them show
//! nothing. Once enabled, no role's atoms refer to another's: [`crate::atom::write`] finds only atoms of the ingesting
//! role, and places new ones by a secret of the role, so that places do not reveal what others have. Only the owner of
//! the tables can run gc, which needs to see everything.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::current_store;
use crate::atom::key::missing;
use crate::atom::statement::codes;
use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::arguments::{from_sql_uuid, maybe_jsonb, maybe_text, uuid};
use crate::pg::jsonb::Jsonb;
use crate::pg::query;
use crate::store::Store;
use modelstore_atom::Key;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use uuid::Uuid;

/// The secret of a role.
pub type Salt = [u8; 16];

/// Tables with policies, each with the condition under which a role sees rows of others.
const SECURED: [(&str, &str); 5] = [
    ("atoms", "is_public"),
    ("atom_parts", "is_public"),
    ("atom_chunks", "is_public"),
    ("ingestion_log", "false"),
    // Not even those of public atoms: an atom may have been private when it had that meta.
    ("atom_meta_versions", "false"),
];

/// The keys of an atom and of its parts, at any depth. UNION keeps each key once, so the recursion ends. With row-level
/// security, `$4` is the role: others may have written parts with the same key.
const MADE_OF: &str = "made_of AS (
        SELECT $1 AS h_xy, $2 AS h_yz, $3 AS h_zm
        UNION
        SELECT p.h_xy, p.h_yz, p.h_zm FROM made_of m
        JOIN @store@.atom_parts p ON p.parent_h_xy = m.h_xy AND p.parent_h_yz = m.h_yz AND p.parent_h_zm = m.h_zm
        WHERE $4 IS NULL OR p.created_by = $4
    )";

/// Set with every change of meta.
const CHANGED: &str = "version = a.version + 1, updated_at = now(), updated_by = current_user";

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn secure_atoms(enable: default!(Option<bool>, true)) -> bool {
    or_raise((|| {
        let enable = required(enable, "enable")?;
        let store = current_store()?;
        if store.is_distributed() {
            return Err(Failure::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!(
                    "row-level security of atoms is not supported in store \"{}\", which is distributed",
                    store.name()
                ),
            )
            .detail("Citus takes no policies with subqueries. Give each tenant a store of its own.")
            .hint("SELECT modelstore.undistribute_store();"));
        }
        // Lock all tables first, in the order in which an ingest locks them.
        store.execute(
            "LOCK TABLE @store@.ingestion_log, @store@.atoms, @store@.atom_parts, @store@.atom_chunks, @store@.atom_meta_versions IN ACCESS EXCLUSIVE MODE",
            &[],
        )?;
        if enable {
            secure(&store)?;
        } else {
            open(&store)?;
        }
        Ok(enable)
    })())
}

fn secure(store: &Store) -> Result<()> {
    forget_policies(store)?;
    for (table, visible) in SECURED {
        policies(store, table, visible)?;
    }
    // Salts stay secret as long as atoms are placed by them.
    drop_policies(store, "atom_salts")?;
    policies(store, "atom_salts", "false")?;
    row_security(store, "ENABLE", true)?;
    // A new snapshot, to see what ingests wrote while this waited for the locks.
    let mixed = store.write(
        "SELECT 1 FROM @store@.atom_parts p
         JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm)
         JOIN @store@.atoms b ON (b.h_xy, b.h_yz, b.h_zm) = (p.h_xy, p.h_yz, p.h_zm)
         WHERE a.created_by <> b.created_by OR a.created_by <> p.created_by LIMIT 1",
        &[],
        |_| Ok(()),
    )?;
    if !mixed.is_empty() {
        return Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "atoms of one role have parts that belong to another role",
        )
        .detail("The data was ingested without row-level security; with it, a role would not see all parts of its own atoms.")
        .hint(store.sql("SELECT created_by, count(*) FROM @store@.atoms GROUP BY created_by;")));
    }
    // The view has no policies; from now on it covers public atoms only.
    store.execute(
        "REFRESH MATERIALIZED VIEW @store@.atom_spatial_summary",
        &[],
    )?;
    Ok(())
}

fn open(store: &Store) -> Result<()> {
    row_security(store, "DISABLE", false)?;
    forget_policies(store)
}

fn forget_policies(store: &Store) -> Result<()> {
    SECURED
        .iter()
        .try_for_each(|(table, _)| drop_policies(store, table))
}

/// A role sees its own rows and those visible to all, and changes its own.
fn policies(store: &Store, table: &str, visible: &str) -> Result<()> {
    store.execute(
        &format!(
            "CREATE POLICY {table}_visible ON @store@.{table} FOR SELECT USING (created_by = current_user OR {visible})"
        ),
        &[],
    )?;
    store.execute(
        &format!(
            "CREATE POLICY {table}_own ON @store@.{table} USING (created_by = current_user) WITH CHECK (created_by = current_user)"
        ),
        &[],
    )?;
    Ok(())
}

/// Drops our policies of a table, if there are any.
fn drop_policies(store: &Store, table: &str) -> Result<()> {
    let ours = store.rows(
        "SELECT polname::text FROM pg_policy WHERE polrelid = $1 ORDER BY 1",
        &[store.relation_oid(table).into()],
        |row| row.get::<String>(1),
    )?;
    for policy in [format!("{table}_visible"), format!("{table}_own")] {
        if ours.contains(&policy) {
            store.execute(&format!("DROP POLICY {policy} ON @store@.{table}"), &[])?;
        }
    }
    Ok(())
}

/// Enables or disables row-level security, also on the partitions of atoms, which show nothing then as they have no
/// policies.
fn row_security(store: &Store, action: &str, salts: bool) -> Result<()> {
    let partitions = store.rows(
        "SELECT format('%I.%I', n.nspname, c.relname)
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE i.inhparent = $1 ORDER BY c.relname",
        &[store.relation_oid("atoms").into()],
        |row| row.get::<String>(1),
    )?;
    let mut tables: Vec<String> = SECURED
        .iter()
        .map(|(table, _)| store.sql(&format!("@store@.{table}")))
        .collect();
    tables.extend(salts.then(|| store.sql("@store@.atom_salts")));
    tables.extend(partitions);
    // One script: plans are cached, and some hundred of these would waste the cache.
    let statements: Vec<String> = tables
        .iter()
        .map(|table| format!("ALTER TABLE {table} {action} ROW LEVEL SECURITY"))
        .collect();
    query::execute(&statements.join("; "), &[])?;
    Ok(())
}

/// Returns whether it is enabled. An error if a partition lacks it because it was attached later.
pub fn is_secured(store: &Store) -> Result<bool> {
    let on = store.row(
        "SELECT c.relrowsecurity,
                CASE WHEN c.relrowsecurity THEN (
                    SELECT min(p.relname::text) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid
                    WHERE i.inhparent = c.oid AND NOT p.relrowsecurity) END
         FROM pg_class c WHERE c.oid = $1",
        &[store.relation_oid("atoms").into()],
        |row| Ok((row.get::<bool>(1)?, row.opt::<String>(2)?)),
    )?;
    match on {
        Some((_, Some(partition))) => Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("partition \"{partition}\" of atoms has no row-level security"),
        )
        .detail("Row-level security is enabled for this store, but this partition would show its rows to roles that query it directly.")
        .hint("SELECT modelstore.secure_atoms();")),
        Some((on, None)) => Ok(on),
        None => Ok(false),
    }
}

/// Returns the salt of this role, created at its first ingest; `None` without row-level security.
pub fn own_salt(store: &Store) -> Result<Option<Salt>> {
    if !is_secured(store)? {
        return Ok(None);
    }
    let find = || {
        store.write(
            "SELECT salt FROM @store@.atom_salts WHERE created_by = current_user",
            &[],
            |row| Ok(*from_sql_uuid(row.get::<SqlUuid>(1)?).as_bytes()),
        )
    };
    if let Some(&salt) = find()?.first() {
        return Ok(Some(salt));
    }
    let random: Option<Uuid> = store.row("SELECT gen_random_uuid()", &[], |row| {
        Ok(from_sql_uuid(row.get::<SqlUuid>(1)?))
    })?;
    store.execute(
        "INSERT INTO @store@.atom_salts (salt) VALUES ($1) ON CONFLICT DO NOTHING",
        &[uuid(random.unwrap_or_default())],
    )?;
    // Another session of the role may have been first.
    find()?.first().copied().map(Some).ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            "could not serialize access due to a concurrent ingest",
        )
        .detail("A concurrent session of this role ingested data for the first time.")
    })
}

/// Returns the salts that this role sees, by role, and whether these are all.
pub fn salts(store: &Store) -> Result<(std::collections::HashMap<String, Salt>, bool)> {
    let mut salts = std::collections::HashMap::new();
    // Roles that read atoms may lack rights on this table, which is empty without row-level security.
    let readable = store.row(
        "SELECT has_table_privilege($1, 'SELECT')",
        &[store.relation_oid("atom_salts").into()],
        |row| row.get::<bool>(1),
    )?;
    if readable != Some(true) {
        return Ok((salts, false));
    }
    store.query(
        "SELECT created_by, salt FROM @store@.atom_salts",
        &[],
        |row| {
            let salt = *from_sql_uuid(row.get::<SqlUuid>(2)?).as_bytes();
            salts.insert(row.get::<String>(1)?, salt);
            Ok(())
        },
    )?;
    let hidden = row_security_active(store, "atom_salts")?;
    Ok((salts, !hidden))
}

fn row_security_active(store: &Store, table: &str) -> Result<bool> {
    let active = store.row(
        "SELECT row_security_active($1)",
        &[store.relation_oid(table).into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(active.unwrap_or_default())
}

/// Raises an error if policies hide rows from this role, for operations that must see all of them.
pub fn require_all_visible(store: &Store, what: &str) -> Result<()> {
    if !row_security_active(store, "atoms")? {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied to {what}"),
    )
    .detail("Row-level security hides atoms from this role that may still be referenced. Run this as the owner of the tables."))
}

/// Walks all parts at any depth when the visibility changes: one statement per table, each part once.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_atom_meta(atom: Option<AtomArgument>, meta: Option<Jsonb<'_>>) -> i32 {
    or_raise((|| {
        let key = key_argument(atom, "atom")?;
        set_meta(&current_store()?, key, meta.as_ref())
    })())
}

fn set_meta(store: &Store, key: Key, meta: Option<&Jsonb<'_>>) -> Result<i32> {
    // First the lock: nobody then changes the meta in between, and what the role may not change is not copied.
    let own = store.write(
        "SELECT FROM @store@.atoms WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3 FOR UPDATE",
        &codes(key),
        |_| Ok(()),
    )?;
    if own.is_empty() {
        return Err(missing(key));
    }
    store.execute(
        "WITH earlier AS MATERIALIZED (
             SELECT h_xy, h_yz, h_zm, version, meta, updated_at, updated_by, created_by
             FROM @store@.atoms WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3 AND meta IS NOT NULL)
         INSERT INTO @store@.atom_meta_versions (h_xy, h_yz, h_zm, version, meta, updated_at, updated_by, created_by)
         SELECT * FROM earlier",
        &codes(key),
    )?;
    let [h_xy, h_yz, h_zm] = codes(key);
    let set = store.write(
        &format!(
            "WITH before AS (
                 SELECT meta FROM @store@.atoms WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3 FOR UPDATE
             )
             UPDATE @store@.atoms a
             SET meta = $4, is_public = $4 ->> 'visibility' IS NOT DISTINCT FROM 'public', {CHANGED}
             FROM before WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3
             RETURNING version, before.meta ->> 'visibility' IS NOT DISTINCT FROM 'public', a.is_public, a.created_by"
        ),
        &[h_xy, h_yz, h_zm, maybe_jsonb(meta)],
        |row| {
            let visibility = (row.get::<bool>(2)?, row.get::<bool>(3)?);
            Ok((row.get::<i32>(1)?, visibility, row.get::<String>(4)?))
        },
    )?;
    let Some((version, (was_public, is_public), created_by)) = set.first() else {
        return Err(missing(key));
    };
    // Parts that are public on their own are not affected by other changes of their composite.
    if was_public == is_public {
        return Ok(*version);
    }
    // A role can read an atom only with its parts.
    let parts = if *is_public {
        format!(
            "WITH RECURSIVE {MADE_OF}
             UPDATE @store@.atoms a
             SET meta = coalesce(a.meta, '{{}}') || '{{\"visibility\": \"public\"}}', is_public = true, {CHANGED}
             FROM made_of m WHERE (a.h_xy, a.h_yz, a.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
               AND a.meta ->> 'visibility' IS DISTINCT FROM 'public'"
        )
    } else {
        // Parts of another public atom stay public.
        format!(
            "WITH RECURSIVE {MADE_OF}, kept AS (
                 SELECT m.h_xy, m.h_yz, m.h_zm FROM made_of m
                 JOIN @store@.atom_parts p ON (p.h_xy, p.h_yz, p.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
                 JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm)
                 WHERE a.meta ->> 'visibility' = 'public' AND p.created_by = a.created_by
                   AND ($4 IS NULL OR p.created_by = $4)
                   AND NOT EXISTS (SELECT FROM made_of o WHERE (o.h_xy, o.h_yz, o.h_zm) = (a.h_xy, a.h_yz, a.h_zm))
                 UNION
                 SELECT p.h_xy, p.h_yz, p.h_zm FROM kept k
                 JOIN @store@.atom_parts p ON (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm) = (k.h_xy, k.h_yz, k.h_zm)
                 WHERE $4 IS NULL OR p.created_by = $4
             )
             UPDATE @store@.atoms a SET meta = nullif(a.meta - 'visibility', '{{}}'), is_public = false, {CHANGED}
             FROM made_of m WHERE (a.h_xy, a.h_yz, a.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
               AND a.meta ->> 'visibility' = 'public'
               AND NOT EXISTS (SELECT FROM kept k WHERE (k.h_xy, k.h_yz, k.h_zm) = (a.h_xy, a.h_yz, a.h_zm))"
        )
    };
    // Copy the flag to the rows of the other tables.
    let lists = format!(
        "WITH RECURSIVE {MADE_OF}
         UPDATE @store@.atom_parts p SET is_public = a.is_public
         FROM made_of m JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
         WHERE (p.parent_h_xy, p.parent_h_yz, p.parent_h_zm) = (m.h_xy, m.h_yz, m.h_zm)
           AND p.created_by = a.created_by AND p.is_public <> a.is_public"
    );
    let chunks = format!(
        "WITH RECURSIVE {MADE_OF}
         UPDATE @store@.atom_chunks c SET is_public = a.is_public
         FROM made_of m JOIN @store@.atoms a ON (a.h_xy, a.h_yz, a.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
         WHERE (c.h_xy, c.h_yz, c.h_zm) = (m.h_xy, m.h_yz, m.h_zm)
           AND c.created_by = a.created_by AND c.is_public <> a.is_public"
    );
    let owner = is_secured(store)?.then_some(created_by.as_str());
    for statement in [parts, lists, chunks] {
        let [h_xy, h_yz, h_zm] = codes(key);
        store.execute(&statement, &[h_xy, h_yz, h_zm, maybe_text(owner)])?;
    }
    Ok(*version)
}
