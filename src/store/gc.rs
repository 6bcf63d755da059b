//! Garbage collection: tensors that nothing refers to, then chunks that no tensor and no delta needs.
//!
//! Writers keep what they found with FOR KEY SHARE until they commit. The collector takes its candidates FOR UPDATE
//! SKIP LOCKED, so it never waits while it holds a lock and never takes a row that a writer has; then it looks for
//! references again with a newer snapshot, because a writer may have committed between the first look and the lock.
//! From then on no writer can take the row. The foreign keys would refuse the delete anyway.

use crate::atom::security::require_all_visible;
use crate::error::{Code, Failure, Result, or_raise};
use crate::store::Store;
use crate::store::query;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use std::panic::UnwindSafe;

type Collected = (i64, i64, i64, i64);

/// Rows locked and deleted at a time: bounds memory and how long a batch holds its locks unexamined.
const BATCH: i64 = 10_000;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn gc(
    dry_run: default!(bool, false),
) -> TableIterator<
    'static,
    (
        name!(tensors, i64),
        name!(chunks, i64),
        name!(raw_bytes, i64),
        name!(stored_bytes, i64),
    ),
> {
    TableIterator::once(or_raise(if dry_run {
        preview()
    } else {
        serializable(collect)
    }))
}

/// A condition that is true where nothing refers to tensor `t`: every foreign key to `tensor_metadata` but that of its
/// own pieces is asked, whichever module or user made it.
fn unreferenced(store: &Store) -> Result<String> {
    let references = store.rows(
        "SELECT format('%I.%I', n.nspname, r.relname), a.attname::text
         FROM pg_constraint k
         JOIN pg_class r ON r.oid = k.conrelid
         JOIN pg_namespace n ON n.oid = r.relnamespace
         JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
         WHERE k.contype = 'f' AND k.confrelid = $1 AND k.conrelid <> $2
           AND cardinality(k.conkey) = 1 AND k.conparentid = 0",
        &[
            store.relation_oid("tensor_metadata").into(),
            store.relation_oid("tensor_data").into(),
        ],
        |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)),
    )?;
    let conditions: Vec<String> = references
        .iter()
        .map(|(table, column)| {
            let column = pgrx::spi::quote_identifier(column);
            format!("NOT EXISTS (SELECT 1 FROM {table} r WHERE r.{column} = t.tensor_id)")
        })
        .collect();
    Ok(if conditions.is_empty() {
        "true".to_owned()
    } else {
        conditions.join(" AND ")
    })
}

/// A statement on the store's tables in which `@garbage@` stands for the condition. The parts are put together after
/// the store's name has been put in, so that no name is mistaken for a placeholder.
fn with_garbage(store: &Store, template: &str, garbage: &str) -> String {
    let parts: Vec<String> = template
        .split("@garbage@")
        .map(|part| store.sql(part))
        .collect();
    parts.join(garbage)
}

/// What a collection would remove now.
fn preview() -> Result<Collected> {
    let store = Store::current()?;
    require_all_visible(&store, "collect chunks")?;
    let garbage = unreferenced(&store)?;
    query::rows(
            &with_garbage(
                &store,
                "WITH RECURSIVE dead_tensors AS MATERIALIZED (SELECT tensor_id FROM @store@.tensor_metadata t WHERE @garbage@),
                 alive(chunk_hash) AS (
                     SELECT d.chunk_hash FROM @store@.tensor_data d
                     WHERE NOT EXISTS (SELECT 1 FROM dead_tensors x WHERE x.tensor_id = d.tensor_id)
                     UNION
                     SELECT a.chunk_hash FROM @store@.atom_chunks a
                     UNION
                     SELECT c.base_hash FROM alive JOIN @store@.tensor_chunks c USING (chunk_hash) WHERE c.base_hash IS NOT NULL
                 )
                 SELECT (SELECT count(*) FROM dead_tensors), count(*), coalesce(sum(raw_bytes), 0)::bigint,
                        coalesce(sum(stored_bytes), 0)::bigint
                 FROM @store@.tensor_chunks c WHERE NOT EXISTS (SELECT 1 FROM alive WHERE alive.chunk_hash = c.chunk_hash)",
                &garbage,
            ),
            &[],
            |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )?
        .pop()
        .ok_or_else(|| Failure::new(Code::ERRCODE_INTERNAL_ERROR, "no result from counting garbage"))
}

/// Where a transaction keeps one snapshot (REPEATABLE READ), the second look is no newer than the first, and what
/// refuses the delete of a row that was taken up meanwhile is its foreign key. To the client that is what it is: a
/// conflict of transactions, to be tried again.
fn serializable(collect: impl Fn() -> Result<Collected> + UnwindSafe) -> Result<Collected> {
    PgTryBuilder::new(collect)
        .catch_when(Code::ERRCODE_FOREIGN_KEY_VIOLATION, |_| {
            Err(Failure::new(
                Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "could not serialize access due to a concurrent import",
            )
            .detail("What was to be collected is referred to again.")
            .hint("SELECT * FROM modelstore.gc();"))
        })
        .execute()
}

fn collect() -> Result<Collected> {
    let store = Store::current()?;
    require_all_visible(&store, "collect chunks")?;
    let mut collected = (tensors(&store)?, 0, 0, 0);
    // Deleting a delta may leave its base without a user: at most one more round for each level of deltas.
    loop {
        let (chunks, raw, stored) = chunks(&store)?;
        if chunks == 0 {
            return Ok(collected);
        }
        collected.1 += chunks;
        collected.2 += raw;
        collected.3 += stored;
        pgrx::check_for_interrupts!();
    }
}

fn tensors(store: &Store) -> Result<i64> {
    let garbage = unreferenced(store)?;
    let lock = with_garbage(
        store,
        "SELECT tensor_id FROM @store@.tensor_metadata t WHERE @garbage@ LIMIT $1 FOR UPDATE SKIP LOCKED",
        &garbage,
    );
    let delete = with_garbage(
        store,
        "DELETE FROM @store@.tensor_metadata t WHERE t.tensor_id = ANY ($1) AND @garbage@",
        &garbage,
    );
    let mut total = 0;
    loop {
        let locked = query::write(&lock, &[BATCH.into()], |row| row.get::<SqlUuid>(1))?;
        let found = locked.len();
        let deleted = query::execute(&delete, &[locked.into()])? as i64;
        total += deleted;
        if (found as i64) < BATCH || deleted == 0 {
            return Ok(total);
        }
        pgrx::check_for_interrupts!();
    }
}

/// One batch of chunks: how many went, their raw and their stored bytes.
fn chunks(store: &Store) -> Result<(i64, i64, i64)> {
    const GARBAGE: &str =
        "NOT EXISTS (SELECT 1 FROM @store@.tensor_data d WHERE d.chunk_hash = c.chunk_hash)
         AND NOT EXISTS (SELECT 1 FROM @store@.atom_chunks a WHERE a.chunk_hash = c.chunk_hash)
         AND NOT EXISTS (SELECT 1 FROM @store@.tensor_chunks x WHERE x.base_hash = c.chunk_hash)";
    let locked = store.write(
        &format!("SELECT c.chunk_hash FROM @store@.tensor_chunks c WHERE {GARBAGE} LIMIT $1 FOR UPDATE SKIP LOCKED"),
        &[BATCH.into()],
        |row| row.get::<Vec<u8>>(1),
    )?;
    if locked.is_empty() {
        return Ok((0, 0, 0));
    }
    let deleted = store.write(
        &format!(
            "WITH gone AS (
                 DELETE FROM @store@.tensor_chunks c WHERE c.chunk_hash = ANY ($1) AND {GARBAGE} RETURNING raw_bytes, stored_bytes
             )
             SELECT count(*), coalesce(sum(raw_bytes), 0)::bigint, coalesce(sum(stored_bytes), 0)::bigint FROM gone"
        ),
        &[locked.into()],
        |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    Ok(deleted.into_iter().next().unwrap_or((0, 0, 0)))
}
