//! PostgreSQL's server programming interface: a connection, prepared statements, rows with typed columns.
//!
//! pgrx's wrapper is not used for three reasons. It chooses between the caller's snapshot and a new one by whether the
//! transaction has written, although the volatility of the function decides. It closes cursors and connections while
//! unwinding, when what they depend on may be gone. And it accepts columns of types that PostgreSQL would coerce.
//!
//! Nothing here calls PostgreSQL while unwinding: the end of the (sub)transaction closes what an error leaves open.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result};
use pgrx::datum::{DatumWithOid, FromDatum, IntoDatum};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What the statements of a function see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Snapshot {
    /// What the caller's statement sees, in all calls of a function that streams, plus what this transaction had
    /// written when the function began: within one statement, a function can read what another has just created.
    /// Read-only, for STABLE functions.
    Callers(pg_sys::CommandId),
    /// Everything that was committed, or written by this transaction, before the statement. For VOLATILE functions.
    New,
}

impl Snapshot {
    /// Returns the snapshot of the caller's statement, as of now. A cursor sees what it saw when it was declared,
    /// although other statements of its transaction write between fetches.
    pub fn callers() -> Snapshot {
        // SAFETY: main thread, inside a transaction; the command ID is not marked as used. A portal has a name, which
        // is empty for a statement that is not a cursor.
        Snapshot::Callers(unsafe {
            let portal = pg_sys::ActivePortal;
            if portal.is_null() || *(*portal).name == 0 {
                pg_sys::GetCurrentCommandId(false)
            } else {
                0
            }
        })
    }

    fn is_read_only(self) -> bool {
        matches!(self, Snapshot::Callers(_))
    }

    /// Runs something with this as the active snapshot.
    pub fn with<T>(self, work: impl FnOnce() -> T) -> T {
        let Snapshot::Callers(seen) = self else {
            return work();
        };
        // SAFETY: main thread. A function called by a statement has an active snapshot; the pushed copy is ours to
        // change until it is popped. If an error unwinds, the end of the (sub)transaction pops it.
        unsafe {
            if !pg_sys::ActiveSnapshotSet() {
                return work();
            }
            let active = pg_sys::GetActiveSnapshot();
            if (*active).curcid >= seen {
                return work();
            }
            pg_sys::PushCopiedSnapshot(active);
            (*pg_sys::GetActiveSnapshot()).curcid = seen;
            let result = work();
            pg_sys::PopActiveSnapshot();
            result
        }
    }
}

/// A prepared statement that lives until it is dropped.
pub struct Plan(NonNull<pg_sys::_SPI_plan>);

impl Plan {
    /// Prepares a statement for parameters of these types.
    pub fn prepare(sql: &str, types: &[pg_sys::Oid]) -> Result<Plan> {
        let sql = c_string(sql)?;
        let mut types = types.to_vec();
        // SAFETY: a connection is open; SPI copies the nul-terminated text and the counted types.
        let plan = unsafe {
            let plan = pg_sys::SPI_prepare(sql.as_ptr(), types.len() as i32, types.as_mut_ptr());
            match NonNull::new(plan) {
                Some(plan) => plan,
                None => return Err(failed("prepare", pg_sys::SPI_result)),
            }
        };
        // SAFETY: the plan was prepared above and is moved out of the connection's memory once.
        check("keep", unsafe { pg_sys::SPI_keepplan(plan.as_ptr()) })?;
        Ok(Plan(plan))
    }

    /// Runs it inside a connection.
    pub fn run(&self, arguments: &[DatumWithOid<'_>], snapshot: Snapshot) -> Result<Rows> {
        let (mut values, nulls) = values_of(arguments);
        // SAFETY: a connection is open; the plan is alive and has as many parameters as there are values, of their
        // types.
        let code = snapshot.with(|| unsafe {
            pg_sys::SPI_tuptable = std::ptr::null_mut();
            pg_sys::SPI_execute_plan(
                self.0.as_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                snapshot.is_read_only(),
                0,
            )
        });
        check("execute", code)?;
        Ok(Rows::last())
    }

    /// Opens a cursor inside a connection.
    pub fn open(&self, arguments: &[DatumWithOid<'_>], snapshot: Snapshot) -> Result<Cursor> {
        let (mut values, nulls) = values_of(arguments);
        // SAFETY: as above; the portal's name is copied.
        let name = snapshot.with(|| unsafe {
            let portal = pg_sys::SPI_cursor_open(
                std::ptr::null(),
                self.0.as_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                snapshot.is_read_only(),
            );
            portal.as_ref().map(|p| CStr::from_ptr(p.name).to_owned())
        });
        // SAFETY: reads SPI's last result code.
        name.map(Cursor)
            .ok_or_else(|| failed("open a cursor", unsafe { pg_sys::SPI_result }))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: a kept plan, freed once.
            unsafe { pg_sys::SPI_freeplan(self.0.as_ptr()) };
        }
    }
}

/// A cursor by its name: its statement may run foreign code, which may close cursors.
pub struct Cursor(CString);

impl Cursor {
    /// Returns at most `count` further rows; none at the end. [`Rows::free`] frees their memory.
    pub fn fetch(&self, count: i64) -> Result<Rows> {
        let portal = self.portal()?;
        // SAFETY: a connection is open and the portal was just found.
        unsafe {
            pg_sys::SPI_tuptable = std::ptr::null_mut();
            pg_sys::SPI_cursor_fetch(portal, true, count as _);
        }
        Ok(Rows::last())
    }

    /// Closes it.
    pub fn close(self) -> Result<()> {
        let portal = self.portal()?;
        // SAFETY: as above.
        unsafe { pg_sys::SPI_cursor_close(portal) };
        Ok(())
    }

    fn portal(&self) -> Result<pg_sys::Portal> {
        // SAFETY: main thread; a nul-terminated name.
        let portal = unsafe { pg_sys::SPI_cursor_find(self.0.as_ptr()) };
        if portal.is_null() {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_CURSOR_STATE,
                format!("cursor \"{}\" was closed", self.0.to_string_lossy()),
            ));
        }
        Ok(portal)
    }
}

/// Runs some work with its own connection. Memory that the work leaves in the server is freed with the connection.
pub fn connected<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: main thread, inside a transaction. An error that unwinds skips the end; then the end of the transaction
    // or subtransaction disconnects.
    unsafe {
        check("connect", pg_sys::SPI_connect())?;
        let result = work();
        check("disconnect", pg_sys::SPI_finish())?;
        result
    }
}

/// Runs statements without parameters, several at once: DDL.
pub fn run_script(sql: &str) -> Result<()> {
    let sql = c_string(sql)?;
    connected(|| {
        // SAFETY: a connection is open; a nul-terminated text.
        check("execute", unsafe {
            pg_sys::SPI_execute(sql.as_ptr(), false, 0)
        })
    })
}

/// The result of a statement. It lives as long as the connection.
pub struct Rows {
    table: *mut pg_sys::SPITupleTable,
    /// Rows returned or affected.
    count: usize,
    /// Base types of the columns.
    types: Vec<pg_sys::Oid>,
}

impl Rows {
    /// Takes the result of the last statement.
    fn last() -> Rows {
        // SAFETY: main thread; SPI_tuptable is null or the result of the last statement, whose description has `natts`
        // columns.
        unsafe {
            let table = pg_sys::SPI_tuptable;
            let mut types = Vec::new();
            let mut count = pg_sys::SPI_processed as usize;
            if let Some(table) = table.as_ref() {
                count = table.numvals as usize;
                types = (1..=(*table.tupdesc).natts)
                    .map(|n| base_type(pg_sys::SPI_gettypeid(table.tupdesc, n)))
                    .collect();
            }
            Rows {
                table,
                count,
                types,
            }
        }
    }

    /// Returns the number of rows returned or, for a statement that returns none, affected.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns the rows.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let returned = if self.table.is_null() { 0 } else { self.count };
        (0..returned).map(|n| Row {
            // SAFETY: the table lives as long as the connection and has `count` rows.
            tuple: unsafe { *(*self.table).vals.add(n) },
            rows: self,
        })
    }

    /// Frees the memory of the rows before the connection ends.
    pub fn free(self) {
        if !self.table.is_null() {
            // SAFETY: the table belongs to this connection and is freed once.
            unsafe { pg_sys::SPI_freetuptable(self.table) }
        }
    }
}

/// One row of a result.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    rows: &'a Rows,
}

impl<'a> Row<'a> {
    /// Returns column `n`, from 1, or `None` if it is NULL; 42804 unless its type is exactly that of `T`.
    pub fn read<T: IntoDatum + FromDatum>(&self, n: usize) -> Result<Option<T>> {
        let Some(datum) = self.datum(n, T::type_oid())? else {
            return Ok(None);
        };
        // SAFETY: the datum has the type that T reads, and is read while its row is alive.
        Ok(unsafe { T::from_polymorphic_datum(datum.0, false, T::type_oid()) })
    }

    /// Returns the datum of column `n`, which must be of this type or a domain over it.
    pub fn datum(&self, n: usize, expected: pg_sys::Oid) -> Result<Option<TypedDatum<'a>>> {
        let actual = n
            .checked_sub(1)
            .and_then(|i| self.rows.types.get(i).copied());
        if actual != Some(expected) || expected == pg_sys::InvalidOid {
            return Err(wrong_type(n, actual, expected));
        }
        Ok(self
            .any_datum(n)
            .map(|datum| TypedDatum(datum, PhantomData)))
    }

    /// Returns the datum of a column whatever its type.
    pub fn any_datum(&self, n: usize) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the row and its tuple descriptor live as long as the connection. A column that does not exist reads
        // as null.
        let datum = unsafe {
            let columns = (*self.rows.table).tupdesc;
            pg_sys::SPI_getbinval(self.tuple, columns, n as i32, &mut is_null)
        };
        (!is_null).then_some(datum)
    }
}

/// A datum whose type was checked. It lives as long as its row.
pub struct TypedDatum<'a>(pub pg_sys::Datum, PhantomData<&'a ()>);

fn wrong_type(n: usize, actual: Option<pg_sys::Oid>, expected: pg_sys::Oid) -> Failure {
    let name = |oid: pg_sys::Oid| {
        // SAFETY: main thread; returns a palloc'd text for any OID.
        unsafe { CStr::from_ptr(pg_sys::format_type_be(oid)) }
            .to_string_lossy()
            .into_owned()
    };
    let actual = actual.map_or_else(|| "missing".to_owned(), name);
    Failure::new(
        Code::ERRCODE_DATATYPE_MISMATCH,
        format!("column {n} of a store's table has type {actual}"),
    )
    .detail(format!("Expected type {}.", name(expected)))
}

/// Returns the base type of a domain; any other type is its own.
fn base_type(oid: pg_sys::Oid) -> pg_sys::Oid {
    // initdb creates no domains from pg_type.dat.
    if oid.to_u32() < pg_sys::FirstGenbkiObjectId {
        return oid;
    }
    // SAFETY: main thread; a lookup in the catalog cache by the OID of a result column.
    unsafe { pg_sys::getBaseType(oid) }
}

fn values_of(arguments: &[DatumWithOid<'_>]) -> (Vec<pg_sys::Datum>, Vec<c_char>) {
    arguments
        .iter()
        .map(|argument| match argument.datum() {
            Some(datum) => (datum.sans_lifetime(), b' ' as c_char),
            None => (pg_sys::Datum::null(), b'n' as c_char),
        })
        .unzip()
}

fn c_string(sql: &str) -> Result<CString> {
    CString::new(sql).map_err(|_| {
        Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            "statement contains a zero byte",
        )
    })
}

fn check(verb: &str, code: i32) -> Result<()> {
    if code < 0 {
        return Err(failed(verb, code));
    }
    Ok(())
}

/// Errors of statements are raised; an error code from SPI is a bug of ours.
fn failed(verb: &str, code: i32) -> Failure {
    Failure::new(
        Code::ERRCODE_INTERNAL_ERROR,
        format!("could not {verb} a statement: SPI returned {code}"),
    )
}
