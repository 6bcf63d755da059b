//! Tests that run inside the server, each in a transaction that is rolled back: for what is easiest to observe there.
#![allow(unsafe_code)]

mod arrays;
mod background;
mod interrupts;
mod modules;
pub mod notes;
mod sources;
mod stores;
mod values;

use crate::error::{Result, or_raise};
use crate::pg::query;
use crate::pg::varlena::Detoasted;

/// Calls `each` with the datum of every row of a query of one column, while its memory is alive.
fn each_datum(sql: &str, mut each: impl FnMut(pgrx::pg_sys::Datum)) {
    or_raise(query::query(sql, &[], |row| {
        each(row.any_datum(1).expect("no null in this test"));
        Ok(())
    }));
}

/// Returns all bytes of the only value of a query of one column.
fn bytes_of(sql: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    each_datum(sql, |datum| {
        // SAFETY: the query returns values of a varlena type, which live as long as the call.
        bytes = unsafe { Detoasted::from_datum(datum) }.bytes().to_vec();
    });
    bytes
}

/// Returns the message of a result that must be an error.
fn message<T>(result: Result<T>) -> String {
    result.err().expect("must be refused").message().to_owned()
}

/// Returns incompressible bytes, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}
