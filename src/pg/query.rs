//! Statements, prepared once per session. Parameters are never built into the text.

use crate::error::{Code, Failure, Result};
use crate::pg::array;
use crate::pg::extension;
use crate::pg::jsonb::Jsonb;
use crate::pg::spi::{self, Plan, Snapshot};
use crate::pg::varlena::{Detoasted, Toasted};
use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::pg_sys;
use serde_json::Value;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// Cached plans; beyond this, all are dropped. Only a session that uses very many stores gets there.
const MAX_PLANS: usize = 2048;

/// Rows that a cursor fetches at a time.
const FETCH: i64 = 10_000;

/// The statement and the types of its parameters: the extension's types get new OIDs when it is dropped and created
/// again.
type Key = (String, Vec<pg_sys::Oid>);

thread_local! {
    /// Taken out while in use: an error in between then leaves an empty map, never a half-changed one.
    static PLANS: Cell<HashMap<Key, Rc<Plan>>> = Cell::default();
}

/// Types that are read into a vector.
const ARRAYS: [pg_sys::Oid; 6] = [
    pg_sys::INT8ARRAYOID,
    pg_sys::INT4ARRAYOID,
    pg_sys::FLOAT8ARRAYOID,
    pg_sys::TEXTARRAYOID,
    pg_sys::BYTEAARRAYOID,
    pg_sys::UUIDARRAYOID,
];

/// One row of a result.
#[derive(Clone, Copy)]
pub struct Row<'a>(spi::Row<'a>);

impl<'a> Row<'a> {
    /// Returns column `n`, from 1; an error if it is NULL or not of type `T`.
    pub fn get<T: IntoDatum + FromDatum>(&self, n: usize) -> Result<T> {
        self.opt(n)?.ok_or_else(|| unexpected_null(n))
    }

    /// Returns column `n`, from 1, or `None` if it is NULL.
    pub fn opt<T: IntoDatum + FromDatum>(&self, n: usize) -> Result<Option<T>> {
        if ARRAYS.contains(&T::type_oid()) && self.has_nulls(n, T::type_oid())? {
            return Err(unexpected_null(n));
        }
        self.0.read(n)
    }

    /// Returns whether an array in column `n` contains a NULL, which no array in a store does.
    #[allow(unsafe_code)]
    fn has_nulls(&self, n: usize, array: pg_sys::Oid) -> Result<bool> {
        let Some(datum) = self.0.datum(n, array)? else {
            return Ok(false);
        };
        // SAFETY: the datum is an array, a varlena, and is read while its row is alive.
        Ok(unsafe {
            let array = pg_sys::pg_detoast_datum(datum.0.cast_mut_ptr());
            pg_sys::array_contains_nulls(array.cast())
        })
    }

    /// Returns the datum of column `n` whatever its type, for tests that know the type.
    #[cfg(any(test, feature = "pg_test"))]
    pub fn any_datum(&self, n: usize) -> Option<pg_sys::Datum> {
        self.0.any_datum(n)
    }

    /// Appends the bytes of a bytea in column `n`; returns false if it is NULL.
    #[allow(unsafe_code)]
    pub fn append_bytes(&self, n: usize, out: &mut Vec<u8>) -> Result<bool> {
        let Some(datum) = self.0.datum(n, pg_sys::BYTEAOID)? else {
            return Ok(false);
        };
        // SAFETY: the datum is a bytea and is read while its row is alive; a copy is freed at once.
        out.extend_from_slice(unsafe { Detoasted::from_datum(datum.0) }.bytes());
        Ok(true)
    }

    /// Returns the chunk in column `n` without detoasting it; `None` if it is NULL.
    #[allow(unsafe_code)]
    pub fn chunk(&self, n: usize) -> Result<Option<Toasted<'a>>> {
        let datum = self.0.datum(n, extension::types().tensor_chunk)?;
        // SAFETY: the datum is a tensor_chunk, a varlena, and lives as long as its row.
        Ok(datum.map(|datum| unsafe { Toasted::from_datum(datum.0) }))
    }

    /// Appends the bytes of a chunk in column `n`; returns false if it is NULL.
    pub fn append_chunk(&self, n: usize, out: &mut Vec<u8>) -> Result<bool> {
        let Some(chunk) = self.chunk(n)? else {
            return Ok(false);
        };
        out.extend_from_slice(chunk.whole().bytes());
        Ok(true)
    }

    /// Returns the elements of a bigint[] without NULLs in column `n`; `None` if it is NULL.
    #[allow(unsafe_code)]
    pub fn bigints(&self, n: usize) -> Result<Option<Vec<i64>>> {
        let Some(datum) = self.0.datum(n, pg_sys::INT8ARRAYOID)? else {
            return Ok(None);
        };
        // SAFETY: the datum is a bigint[] and is read while its row is alive; a copy is freed at once.
        let array = unsafe { Detoasted::from_datum(datum.0) };
        let (_, bytes) = array::read(array.bytes(), size_of::<i64>())?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Some(
            words.iter().map(|word| i64::from_ne_bytes(*word)).collect(),
        ))
    }

    /// Returns the jsonb in column `n`; `None` if it is NULL or contains a number that no Rust type can represent.
    #[allow(unsafe_code)]
    pub fn json(&self, n: usize) -> Result<Option<Value>> {
        let Some(datum) = self.0.datum(n, pg_sys::JSONBOID)? else {
            return Ok(None);
        };
        // SAFETY: the datum is a jsonb and is read while its row is alive.
        let json = Jsonb(unsafe { Detoasted::from_datum(datum.0) });
        Ok(serde_json::from_str(&json.text()?).ok())
    }
}

fn unexpected_null(n: usize) -> Failure {
    Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!("unexpected null in column {n} of a store's table"),
    )
    .hint("SELECT * FROM modelstore.verify_store();")
}

/// Runs a query with a new snapshot and calls `each` with each row.
pub fn query(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    select(Snapshot::New, sql, arguments, each)
}

/// Runs a query with a new snapshot and converts each row to a value.
pub fn rows<T>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    make: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    select_rows(Snapshot::New, sql, arguments, make)
}

/// Runs a query with the given snapshot and calls `each` with each row.
pub fn select(
    snapshot: Snapshot,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    mut each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    spi::connected(|| {
        let rows = plan(sql, arguments)?.run(arguments, snapshot)?;
        rows.iter().try_for_each(|row| each(&Row(row)))
    })
}

/// Runs a query through a cursor, for results that do not fit in memory; without parameters.
pub fn select_by_cursor(
    snapshot: Snapshot,
    sql: &str,
    mut each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    spi::connected(|| {
        let cursor = plan(sql, &[])?.open(&[], snapshot)?;
        loop {
            let rows = cursor.fetch(FETCH)?;
            rows.iter().try_for_each(|row| each(&Row(row)))?;
            let full = rows.len() == FETCH as usize;
            rows.free();
            if !full {
                return cursor.close();
            }
            pgrx::check_for_interrupts!();
        }
    })
}

/// Runs a query and calls `each` with the rows sorted by `key`, in memory: O(rows · log rows).
pub fn select_in_order<K: Ord>(
    snapshot: Snapshot,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    key: impl Fn(&Row<'_>) -> Result<K>,
    mut each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    spi::connected(|| {
        let rows = plan(sql, arguments)?.run(arguments, snapshot)?;
        let mut sorted = rows
            .iter()
            .map(|row| {
                let row = Row(row);
                Ok((key(&row)?, row))
            })
            .collect::<Result<Vec<_>>>()?;
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted.iter().try_for_each(|(_, row)| each(row))
    })
}

/// Runs a query with the given snapshot and converts each row to a value.
pub fn select_rows<T>(
    snapshot: Snapshot,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    mut make: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    select(snapshot, sql, arguments, |row| {
        rows.push(make(row)?);
        Ok(())
    })?;
    Ok(rows)
}

/// Runs a statement that writes, with a new snapshot, and converts each returned row to a value.
pub fn write<T>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    make: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    refuse_during_recovery()?;
    rows(sql, arguments, make)
}

/// Runs a statement that writes and returns the number of affected rows.
pub fn execute(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize> {
    refuse_during_recovery()?;
    spi::connected(|| Ok(plan(sql, arguments)?.run(arguments, Snapshot::New)?.len()))
}

/// Raises a clear error on a standby, where a write would fail without naming the reason.
#[allow(unsafe_code)]
pub fn refuse_during_recovery() -> Result<()> {
    // SAFETY: reads a flag of shared memory.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Err(Failure::new(
            Code::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            "cannot write to a store during recovery",
        )
        .detail("This server is a standby. Reads work here; writes belong on the primary."));
    }
    Ok(())
}

fn plan(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<Rc<Plan>> {
    let key = (
        sql.to_owned(),
        arguments.iter().map(DatumWithOid::oid).collect::<Vec<_>>(),
    );
    let plans = PLANS.take();
    let known = plans.get(&key).cloned();
    PLANS.set(plans);
    if let Some(plan) = known {
        return Ok(plan);
    }
    let plan = Rc::new(Plan::prepare(sql, &key.1)?);
    let mut plans = PLANS.take();
    if plans.len() >= MAX_PLANS {
        plans.clear();
    }
    plans.insert(key, Rc::clone(&plan));
    PLANS.set(plans);
    Ok(plan)
}
