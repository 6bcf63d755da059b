//! A file of the server that is being written: it goes away unless it is finished, however the writing ends.
//!
//! An error or a cancel unwinds, and the guard removes the file. A terminated session exits without unwinding; then a
//! callback of the exit does.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static CURRENT: Mutex<Option<PathBuf>> = Mutex::new(None);

thread_local! {
    static EXIT_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Guards the file that this session writes; there is one at a time.
pub struct HalfWritten;

impl HalfWritten {
    /// Of a file that was just made.
    pub fn new(path: &Path) -> HalfWritten {
        if !EXIT_CALLBACK.replace(true) {
            // SAFETY: main thread; the callback is a static function.
            unsafe { pg_sys::on_proc_exit(Some(remove_at_exit), pg_sys::Datum::from(0)) }
        }
        *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.to_owned());
        HalfWritten
    }

    /// The file is complete and stays.
    pub fn finished(self) {
        CURRENT
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

impl Drop for HalfWritten {
    fn drop(&mut self) {
        remove();
    }
}

fn remove() {
    if let Some(path) = CURRENT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        // Nothing better can be done here than to try.
        drop(std::fs::remove_file(path));
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn remove_at_exit(_code: i32, _argument: pg_sys::Datum) {
    remove();
}
