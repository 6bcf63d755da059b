//! Garbage collection: tensors that nothing refers to, then chunks that no tensor and no delta uses.
//!
//! Writers lock what they reuse FOR KEY SHARE until they commit. gc locks its candidates FOR UPDATE SKIP LOCKED, so it
//! never waits while holding a lock and never takes a row that a writer has locked. It then looks for references again
//! with a newer snapshot, because a writer may have committed between the first look and the lock. From then on no
//! writer can lock the row.
//!
//! It reads only tables of the store's owner. Foreign keys protect what others refer to, and what a policy or an old
//! snapshot hides: a row that they refuse to delete stays, and the rest is deleted.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::arguments::now;
use crate::pg::query;
use crate::pg::scratch::in_scratch_memory;
use crate::pg::subtransaction::subtransaction;
use crate::store::Store;
use crate::store::owner::as_owner;
use crate::upload::copy;
use pgrx::datum::{DatumWithOid, Interval, Uuid as SqlUuid};
use pgrx::prelude::*;
use std::ops::AddAssign;

/// Rows locked and deleted at a time: bounds memory, and how long a batch is locked before it is checked.
const BATCH: usize = 10_000;

/// Numbers of tensors and chunks, and raw and stored bytes of the chunks.
type Collected = (i64, i64, i64, i64);

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn gc(
    dry_run: default!(Option<bool>, false),
    abandoned_after: default!(Option<Interval>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(tensors, i64),
        name!(chunks, i64),
        name!(raw_bytes, i64),
        name!(stored_bytes, i64),
        name!(uploads, i64),
    ),
> {
    TableIterator::once(or_raise((|| {
        let dry_run = required(dry_run, "dry_run")?;
        // The chunks of a statement that is running are nobody's until it ends.
        copy::flush()?;
        let store = Store::current()?;
        if !dry_run {
            check_at_once(&store)?;
        }
        // As the caller: whose uploads may be deleted is a matter of privileges.
        let uploads = match abandoned_after {
            Some(age) => abandoned(&store, age, dry_run)?,
            None => 0,
        };
        let (tensors, chunks, raw_bytes, stored_bytes) = as_owner(&store, || {
            if dry_run {
                preview(&store)
            } else {
                collect(&store)
            }
        })?;
        Ok((tensors, chunks, raw_bytes, stored_bytes, uploads))
    })()))
}

/// Deletes uploads without a part for so long, and returns their number. One that a session appends to stays.
fn abandoned(store: &Store, age: Interval, dry_run: bool) -> Result<i64> {
    let found = match dry_run {
        true => store.rows(
            "SELECT 1 FROM @store@.uploads WHERE updated_at < $2 - $1",
            &[age.into(), now()],
            |_| Ok(()),
        ),
        false => store.write(
            "DELETE FROM @store@.uploads WHERE upload_id IN (
                 SELECT upload_id FROM @store@.uploads WHERE updated_at < $2 - $1 FOR UPDATE SKIP LOCKED)
             RETURNING 1",
            &[age.into(), now()],
            |_| Ok(()),
        ),
    }?;
    Ok(found.len() as i64)
}

/// Has foreign keys checked at once, from here to the end of the transaction: one that is checked at the end would undo all
/// of it.
fn check_at_once(store: &Store) -> Result<()> {
    let tables = ["tensor_metadata", "tensor_data", "tensor_chunks"];
    let deferrable = store.rows(
        "SELECT 1 FROM pg_constraint WHERE contype = 'f' AND confrelid = ANY ($1) AND condeferrable LIMIT 1",
        &[tables.map(|table| store.relation_oid(table)).to_vec().into()],
        |_| Ok(()),
    )?;
    if !deferrable.is_empty() {
        query::execute("SET CONSTRAINTS ALL IMMEDIATE", &[])?;
    }
    Ok(())
}

/// A foreign key to one of the store's tables, created by any module or user.
struct Reference {
    /// Its referencing table, quoted, and the OID of that table.
    table: String,
    oid: pg_sys::Oid,
    /// Its first column.
    column: String,
    /// Whether gc reads it: it has one column, and is the store's own or, if gc runs as the owner, the owner's.
    is_asked: bool,
    /// Whether a delete would change rows of another role.
    changes_others: bool,
    /// Its name, quoted.
    name: String,
    /// The owner of the referencing table.
    owner: String,
}

impl Reference {
    /// Returns the foreign keys to a table.
    fn to(store: &Store, table: &str) -> Result<Vec<Reference>> {
        store.rows(
            "SELECT format('%I.%I', n.nspname, r.relname), r.oid, a.attname::text,
                    r.relowner = t.relowner AND cardinality(k.conkey) = 1 AND has_column_privilege(r.oid, a.attnum, 'SELECT')
                    AND (pg_get_userbyid(t.relowner) = current_user OR r.relnamespace = t.relnamespace AND r.relname = ANY ($2)),
                    r.relowner <> t.relowner AND k.confdeltype::text IN ('c', 'n', 'd'),
                    format('%I', k.conname), pg_get_userbyid(r.relowner)::text
             FROM pg_constraint k
             JOIN pg_class t ON t.oid = k.confrelid
             JOIN pg_class r ON r.oid = k.conrelid
             JOIN pg_namespace n ON n.oid = r.relnamespace
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
             WHERE k.contype = 'f' AND k.confrelid = $1 AND k.conparentid = 0
             ORDER BY 1, 3",
            &[store.relation_oid(table).into(), store.tables().into()],
            |row| {
                Ok(Reference {
                    table: row.get(1)?,
                    oid: row.get(2)?,
                    column: row.get(3)?,
                    is_asked: row.get(4)?,
                    changes_others: row.get(5)?,
                    name: row.get(6)?,
                    owner: row.get(7)?,
                })
            },
        )
    }

    /// Returns the condition that none of its rows refers to an expression.
    fn absent(&self, value: &str) -> String {
        let column = pgrx::spi::quote_identifier(&self.column);
        format!(
            "NOT EXISTS (SELECT 1 FROM {} r WHERE r.{column} = {value})",
            self.table
        )
    }

    /// Raises an error if our delete would run an ON DELETE action on another role's table.
    fn require_harmless(&self) -> Result<()> {
        if !self.changes_others {
            return Ok(());
        }
        Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "foreign key {} of table {} changes rows of role \"{}\" when tensors are deleted",
                self.name, self.table, self.owner
            ),
        )
        .detail("Foreign keys from tables of other roles to the tables of a store must not have an ON DELETE action.")
        .hint(format!(
            "ALTER TABLE {} DROP CONSTRAINT {};",
            self.table, self.name
        )))
    }
}

/// Conditions for garbage.
struct Garbage {
    /// For tensor `t`.
    tensor: String,
    /// For chunk `c`.
    chunk: String,
    /// Other tables that use chunks, each as a query of their hashes.
    other_users: Vec<String>,
}

impl Garbage {
    fn find(store: &Store) -> Result<Garbage> {
        let (pieces, chunks) = (
            store.relation_oid("tensor_data"),
            store.relation_oid("tensor_chunks"),
        );
        let of_tensors = Reference::to(store, "tensor_metadata")?;
        let of_chunks = Reference::to(store, "tensor_chunks")?;
        let of_pieces = Reference::to(store, "tensor_data")?;
        for reference in of_tensors.iter().chain(&of_chunks).chain(&of_pieces) {
            reference.require_harmless()?;
        }
        let all = |references: Vec<String>| match references.is_empty() {
            true => "true".to_owned(),
            false => references.join(" AND "),
        };
        // A tensor's own pieces are deleted with it.
        let tensor = of_tensors.iter().filter(|r| r.is_asked && r.oid != pieces);
        let chunk = of_chunks.iter().filter(|r| r.is_asked);
        let others = chunk.clone().filter(|r| r.oid != pieces && r.oid != chunks);
        Ok(Garbage {
            tensor: all(tensor.map(|r| r.absent("t.tensor_id")).collect()),
            other_users: others
                .map(|r| {
                    format!(
                        "SELECT {} FROM {}",
                        pgrx::spi::quote_identifier(&r.column),
                        r.table
                    )
                })
                .collect(),
            chunk: all(chunk.map(|r| r.absent("c.chunk_hash")).collect()),
        })
    }
}

/// Replaces each `@garbage@` in a statement by the next of `garbage`. The store's name is inserted first, so that no
/// name is mistaken for a placeholder.
fn with(store: &Store, template: &str, garbage: &[&str]) -> String {
    let mut garbage = garbage.iter();
    let mut sql = String::new();
    for (number, part) in template.split("@garbage@").enumerate() {
        if number > 0 {
            sql += garbage.next().copied().unwrap_or_default();
        }
        sql += &store.sql(part);
    }
    sql
}

/// Counts what gc would delete now, unless tables of others refer to it.
fn preview(store: &Store) -> Result<Collected> {
    let garbage = Garbage::find(store)?;
    let others: String = garbage
        .other_users
        .iter()
        .map(|query| format!(" UNION {query}"))
        .collect();
    query::rows(
        &with(
            store,
            "WITH RECURSIVE dead_tensors AS MATERIALIZED (SELECT tensor_id FROM @store@.tensor_metadata t WHERE @garbage@),
             alive AS (
                 (SELECT d.chunk_hash FROM @store@.tensor_data d
                  WHERE NOT EXISTS (SELECT 1 FROM dead_tensors x WHERE x.tensor_id = d.tensor_id)@garbage@)
                 UNION
                 SELECT c.base_hash FROM alive JOIN @store@.tensor_chunks c USING (chunk_hash) WHERE c.base_hash IS NOT NULL
             )
             SELECT (SELECT count(*) FROM dead_tensors), count(*), coalesce(sum(raw_bytes), 0)::bigint,
                    coalesce(sum(stored_bytes), 0)::bigint
             FROM @store@.tensor_chunks c WHERE NOT EXISTS (SELECT 1 FROM alive WHERE alive.chunk_hash = c.chunk_hash)",
            &[&garbage.tensor, &others],
        ),
        &[],
        |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
    )?
    .pop()
    .ok_or_else(|| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "no result from counting garbage"))
}

/// Counts of deleted rows.
#[derive(Clone, Copy, Default)]
struct Deleted {
    rows: i64,
    raw_bytes: i64,
    stored_bytes: i64,
    /// How many of them were deltas.
    deltas: i64,
}

impl AddAssign for Deleted {
    fn add_assign(&mut self, other: Deleted) {
        self.rows += other.rows;
        self.raw_bytes += other.raw_bytes;
        self.stored_bytes += other.stored_bytes;
        self.deltas += other.deltas;
    }
}

fn collect(store: &Store) -> Result<Collected> {
    let garbage = Garbage::find(store)?;
    let tensors = sweep::<SqlUuid>(
        &with(
            store,
            "SELECT t.tensor_id FROM @store@.tensor_metadata t WHERE t.tensor_id > $1 AND @garbage@
             ORDER BY t.tensor_id LIMIT $2 FOR UPDATE SKIP LOCKED",
            &[&garbage.tensor],
        ),
        &with(
            store,
            "WITH gone AS (
                 DELETE FROM @store@.tensor_metadata t WHERE t.tensor_id = ANY ($1) AND @garbage@ RETURNING 1
             )
             SELECT count(*), 0::bigint, 0::bigint, 0::bigint FROM gone",
            &[&garbage.tensor],
        ),
        SqlUuid::from_bytes([0; 16]),
    )?;
    let lock = with(
        store,
        "SELECT c.chunk_hash FROM @store@.tensor_chunks c WHERE c.chunk_hash > $1 AND @garbage@
         ORDER BY c.chunk_hash LIMIT $2 FOR UPDATE SKIP LOCKED",
        &[&garbage.chunk],
    );
    let delete = with(
        store,
        "WITH gone AS (
             DELETE FROM @store@.tensor_chunks c WHERE c.chunk_hash = ANY ($1) AND @garbage@
             RETURNING raw_bytes, stored_bytes, base_hash
         )
         SELECT count(*), coalesce(sum(raw_bytes), 0)::bigint, coalesce(sum(stored_bytes), 0)::bigint, count(base_hash) FROM gone",
        &[&garbage.chunk],
    );
    let mut chunks = Deleted::default();
    loop {
        let deleted = sweep::<Vec<u8>>(&lock, &delete, Vec::new())?;
        chunks += deleted;
        // Deleting a delta may leave its base unused: at most one more round per level of deltas.
        if deleted.deltas == 0 {
            return Ok((
                tensors.rows,
                chunks.rows,
                chunks.raw_bytes,
                chunks.stored_bytes,
            ));
        }
    }
}

/// Scans a table once in the order of its key: locks garbage, and deletes what still is garbage. Memory for one batch.
fn sweep<K>(lock: &str, delete: &str, mut after: K) -> Result<Deleted>
where
    K: Clone + IntoDatum + FromDatum,
    for<'a> Vec<K>: Into<DatumWithOid<'a>>,
    for<'a> K: Into<DatumWithOid<'a>>,
{
    let mut total = Deleted::default();
    loop {
        let (found, last) = in_scratch_memory(|| -> Result<(usize, Option<K>)> {
            let arguments = [after.clone().into(), (BATCH as i64).into()];
            let locked = query::write(lock, &arguments, |row| row.get::<K>(1))?;
            total += remove(delete, &locked)?;
            Ok((locked.len(), locked.last().cloned()))
        })?;
        match last {
            Some(last) if found == BATCH => after = last,
            _ => return Ok(total),
        }
        pgrx::check_for_interrupts!();
    }
}

/// Deletes rows. If a foreign key refuses, splits the batch in halves, down to the rows that are referenced, which
/// stay. Takes O(r · log [`BATCH`]) statements for r such rows; the recursion is log2 [`BATCH`] deep.
fn remove<K>(delete: &str, keys: &[K]) -> Result<Deleted>
where
    K: Clone,
    for<'a> Vec<K>: Into<DatumWithOid<'a>>,
{
    if keys.is_empty() {
        return Ok(Deleted::default());
    }
    let deleted = subtransaction(|| {
        query::write(delete, &[keys.to_vec().into()], |row| {
            Ok(Deleted {
                rows: row.get(1)?,
                raw_bytes: row.get(2)?,
                stored_bytes: row.get(3)?,
                deltas: row.get(4)?,
            })
        })
    });
    match deleted {
        Ok(rows) => Ok(rows.into_iter().next().unwrap_or_default()),
        Err(failure) if !is_reference(failure.code()) => Err(failure),
        Err(_) if keys.len() == 1 => Ok(Deleted::default()),
        Err(_) => {
            pgrx::check_for_interrupts!();
            let (left, right) = keys.split_at(keys.len() / 2);
            let mut deleted = remove(delete, left)?;
            deleted += remove(delete, right)?;
            Ok(deleted)
        }
    }
}

/// Returns whether a foreign key refused. Since PostgreSQL 18, ON DELETE RESTRICT has its own SQLSTATE.
fn is_reference(code: Code) -> bool {
    matches!(
        code,
        Code::ERRCODE_FOREIGN_KEY_VIOLATION | Code::ERRCODE_RESTRICT_VIOLATION
    )
}
