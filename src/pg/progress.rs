//! Progress of imports in `pg_stat_progress_copy`.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use std::cell::Cell;

/// Columns of `pg_stat_progress_copy`, from `commands/progress.h`.
const BYTES_PROCESSED: i32 = 0;
const BYTES_TOTAL: i32 = 1;
const TUPLES_PROCESSED: i32 = 2;

/// Reports while it is alive; silent if the session already reports for an enclosing command such as COPY.
pub struct Progress {
    active: bool,
    bytes: Cell<u64>,
    chunks: Cell<u64>,
}

impl Progress {
    /// Starts reporting on a relation.
    pub fn begin(relation: pg_sys::Oid, total_bytes: u64) -> Progress {
        // SAFETY: main thread; MyBEEntry points at this backend's own entry once it is running.
        let active = unsafe {
            !pg_sys::MyBEEntry.is_null()
                && (*pg_sys::MyBEEntry).st_progress_command
                    == pg_sys::ProgressCommandType::PROGRESS_COMMAND_INVALID
        };
        let progress = Progress {
            active,
            bytes: Cell::new(0),
            chunks: Cell::new(0),
        };
        if active {
            // SAFETY: main thread.
            unsafe {
                pg_sys::pgstat_progress_start_command(
                    pg_sys::ProgressCommandType::PROGRESS_COMMAND_COPY,
                    relation,
                )
            }
            progress.set(BYTES_TOTAL, total_bytes);
        }
        progress
    }

    /// Counts a finished chunk.
    pub fn advance(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        self.chunks.set(self.chunks.get() + 1);
        self.set(BYTES_PROCESSED, self.bytes.get());
        self.set(TUPLES_PROCESSED, self.chunks.get());
    }

    fn set(&self, column: i32, value: u64) {
        if self.active {
            // SAFETY: main thread; the column is one of this command's.
            unsafe { pg_sys::pgstat_progress_update_param(column, value as i64) }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // An aborting transaction clears the report itself.
        if self.active && !std::thread::panicking() {
            // SAFETY: main thread; we started it.
            unsafe { pg_sys::pgstat_progress_end_command() }
        }
    }
}
