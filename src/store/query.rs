//! Statements on a store's tables: prepared once per session and store, parameters never built into the text.

use crate::error::{Code, Failure, Result};
use crate::jsonb::Jsonb;
use crate::store::Store;
use crate::tensor::array;
use crate::varlena::Detoasted;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, PgOid};
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Plans kept; above this all are dropped, which only a session that visits very many stores sees.
const MAX_PLANS: usize = 2048;

/// Rows that a cursor fetches at a time.
const FETCH: i64 = 10_000;

/// The statement, whether it writes, and the types of its parameters: those of the extension get new OIDs when it is
/// dropped and made again.
type Key = (String, bool, Vec<pg_sys::Oid>);

thread_local! {
    static PLANS: RefCell<HashMap<Key, Rc<OwnedPreparedStatement>>> = RefCell::new(HashMap::new());
}

/// One row of a result.
pub struct Row<'a>(SpiHeapTupleData<'a>);

impl Row<'_> {
    /// Column `n`, from 1; an error when it is NULL.
    pub fn get<T: IntoDatum + FromDatum>(&self, n: usize) -> Result<T> {
        self.opt(n)?.ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!("unexpected null in column {n} of a store's table"),
            )
        })
    }

    /// Column `n`, from 1, or `None` when it is NULL.
    pub fn opt<T: IntoDatum + FromDatum>(&self, n: usize) -> Result<Option<T>> {
        Ok(self.0.get::<T>(n)?)
    }

    /// Appends the bytes of a bytea or chunk in column `n`; false when it is NULL. A `get` would leave its copy to the
    /// caller's memory context, and a stream of chunks would grow until the function ends.
    #[allow(unsafe_code)]
    pub fn append_bytes(&self, n: usize, out: &mut Vec<u8>) -> Result<bool> {
        let Some(datum) = self.datum(n)? else {
            return Ok(false);
        };
        // SAFETY: the column is a varlena and is read while the query's memory lives; a copy is freed at once.
        out.extend_from_slice(unsafe { Detoasted::from_datum(datum) }.bytes());
        Ok(true)
    }

    /// The elements of a bigint[] in column `n`, without NULLs; `None` when it is NULL. Leaves nothing behind, as above.
    #[allow(unsafe_code)]
    pub fn bigints(&self, n: usize) -> Result<Option<Vec<i64>>> {
        let Some(datum) = self.datum(n)? else {
            return Ok(None);
        };
        // SAFETY: the column is an array and is read while the query's memory lives; a copy is freed at once.
        let array = unsafe { Detoasted::from_datum(datum) };
        let (_, bytes) = array::read(array.bytes(), size_of::<i64>())?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Some(
            words.iter().map(|word| i64::from_ne_bytes(*word)).collect(),
        ))
    }

    /// The jsonb in column `n`; `None` when it is NULL, or has a number that no type of Rust holds.
    #[allow(unsafe_code)]
    pub fn json(&self, n: usize) -> Result<Option<Value>> {
        let Some(datum) = self.datum(n)? else {
            return Ok(None);
        };
        // SAFETY: the column is a jsonb and is read while the query's memory lives.
        let json = Jsonb(unsafe { Detoasted::from_datum(datum) });
        Ok(serde_json::from_str(&json.text()?).ok())
    }

    /// The datum of column `n`, for values that are read in pieces while the query's memory lives.
    pub fn datum(&self, n: usize) -> Result<Option<pg_sys::Datum>> {
        Ok(self.0.get::<RawDatum>(n)?.map(|raw| raw.0))
    }
}

/// A datum of any type, as it is.
struct RawDatum(pg_sys::Datum);

#[allow(unsafe_code)]
impl FromDatum for RawDatum {
    // SAFETY: nothing is read through the datum here.
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null { None } else { Some(RawDatum(datum)) }
    }
}

impl IntoDatum for RawDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }

    fn is_compatible_with(_: pg_sys::Oid) -> bool {
        true
    }
}

/// Runs a query and hands each row to `each`.
pub fn query(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    mut each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    Spi::connect(|client| {
        let plan = plan(sql, false, arguments, |types| {
            Ok(client.prepare(sql, types)?.keep())
        })?;
        for row in client.select(plan.as_ref(), None, arguments)? {
            each(&Row(row))?;
        }
        Ok(())
    })
}

/// The same for results that would not fit in memory; without parameters, as a cursor keeps no plan.
pub fn query_by_cursor(sql: &str, mut each: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
    // What a fetch returns is freed at the end of its connection.
    let mut cursor = Spi::connect(|client| client.open_cursor(sql, &[]).detach_into_name());
    loop {
        let next = Spi::connect(|client| -> Result<Option<String>> {
            let mut open = client.find_cursor(&cursor)?;
            let rows = open.fetch(FETCH)?;
            let full = rows.len() == FETCH as usize;
            for row in rows {
                each(&Row(row))?;
            }
            Ok(full.then(|| open.detach_into_name()))
        })?;
        match next {
            Some(name) => cursor = name,
            None => return Ok(()),
        }
        pgrx::check_for_interrupts!();
    }
}

/// The same in the order of a key, for the few rows that are cheaper to sort here than by a node of the plan.
pub fn query_in_order<K: Ord>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    key: impl Fn(&Row<'_>) -> Result<K>,
    mut each: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    Spi::connect(|client| {
        let plan = plan(sql, false, arguments, |types| {
            Ok(client.prepare(sql, types)?.keep())
        })?;
        let mut rows = client
            .select(plan.as_ref(), None, arguments)?
            .map(|row| {
                let row = Row(row);
                Ok((key(&row)?, row))
            })
            .collect::<Result<Vec<_>>>()?;
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.iter().try_for_each(|(_, row)| each(row))
    })
}

/// The rows of a query, each made into a value.
pub fn rows<T>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    mut make: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    query(sql, arguments, |row| {
        rows.push(make(row)?);
        Ok(())
    })?;
    Ok(rows)
}

/// Runs a statement that writes, with a new snapshot, and makes a value of each row it returns.
pub fn write<T>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    mut make: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    refuse_during_recovery()?;
    Spi::connect_mut(|client| {
        let plan = plan(sql, true, arguments, |types| {
            Ok(client.prepare_mut(sql, types)?.keep())
        })?;
        client
            .update(plan.as_ref(), None, arguments)?
            .map(|row| make(&Row(row)))
            .collect()
    })
}

/// Runs a statement that writes and returns how many rows it touched.
pub fn execute(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize> {
    refuse_during_recovery()?;
    Spi::connect_mut(|client| {
        let plan = plan(sql, true, arguments, |types| {
            Ok(client.prepare_mut(sql, types)?.keep())
        })?;
        Ok(client.update(plan.as_ref(), None, arguments)?.len())
    })
}

/// The same on the tables of a store: `@store@` in the statement stands for its schema.
impl Store {
    /// See [`query`].
    pub fn query(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        query(&self.sql(template), arguments, each)
    }

    /// See [`query_by_cursor`].
    pub fn query_by_cursor(
        &self,
        template: &str,
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        query_by_cursor(&self.sql(template), each)
    }

    /// See [`query_in_order`].
    pub fn query_in_order<K: Ord>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        key: impl Fn(&Row<'_>) -> Result<K>,
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        query_in_order(&self.sql(template), arguments, key, each)
    }

    /// See [`rows`].
    pub fn rows<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        rows(&self.sql(template), arguments, make)
    }

    /// The only row of a query, or `None`.
    pub fn row<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.rows(template, arguments, make)?.pop())
    }

    /// See [`write`].
    pub fn write<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        write(&self.sql(template), arguments, make)
    }

    /// See [`execute`].
    pub fn execute(&self, template: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize> {
        execute(&self.sql(template), arguments)
    }
}

/// pgrx takes a transaction id before the statement runs, which on a standby fails with an internal error.
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

fn plan(
    sql: &str,
    writes: bool,
    arguments: &[DatumWithOid<'_>],
    prepare: impl FnOnce(&[PgOid]) -> Result<OwnedPreparedStatement>,
) -> Result<Rc<OwnedPreparedStatement>> {
    let key = (
        sql.to_owned(),
        writes,
        arguments.iter().map(DatumWithOid::oid).collect::<Vec<_>>(),
    );
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).cloned()) {
        return Ok(plan);
    }
    let types: Vec<PgOid> = key.2.iter().map(|oid| PgOid::from(*oid)).collect();
    let plan = Rc::new(prepare(&types)?);
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        plans.insert(key, Rc::clone(&plan));
    });
    Ok(plan)
}
