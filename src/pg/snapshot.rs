//! Snapshots that are newer than the transaction's.
#![allow(unsafe_code)]

use crate::error::Result;
use pgrx::pg_sys;

/// Runs catalog reads that see the latest committed state, as PostgreSQL's own do, even if the transaction keeps one
/// snapshot. A leader of parallel workers cannot take a new snapshot and reads with its own.
pub fn with_latest_snapshot<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: main thread, inside a transaction. An error that unwinds leaves the snapshot to the end of the transaction or
    // subtransaction, which pops it.
    unsafe {
        if pg_sys::IsInParallelMode() {
            return work();
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = work();
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// Runs reads for an input function: PostgreSQL may read a literal before a statement has a snapshot.
pub fn with_active_snapshot<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: main thread, inside a transaction. An error that unwinds leaves the snapshot as above.
    unsafe {
        if pg_sys::ActiveSnapshotSet() {
            return work();
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let result = work();
        pg_sys::PopActiveSnapshot();
        result
    }
}
