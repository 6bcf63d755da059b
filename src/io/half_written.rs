//! Removes a server file that is being written unless it is finished, however the writing ends.
//!
//! If an error or a cancel unwinds, the guard removes the file. A terminated session exits without unwinding; then an
//! exit callback removes it.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static CURRENT: Mutex<Option<PathBuf>> = Mutex::new(None);

thread_local! {
    static EXIT_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Guards the file or folder that this session is writing; there is only one at a time.
pub struct HalfWritten;

impl HalfWritten {
    /// Guards a file, or a folder with all that will be in it, that was just created.
    pub fn new(path: &Path) -> HalfWritten {
        if !EXIT_CALLBACK.replace(true) {
            // SAFETY: main thread; the callback is a static function.
            unsafe { pg_sys::on_proc_exit(Some(remove_at_exit), pg_sys::Datum::from(0)) }
        }
        *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.to_owned());
        HalfWritten
    }

    /// Keeps the file, which is complete.
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
        // A failure here cannot be handled.
        drop(match path.is_dir() {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        });
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn remove_at_exit(_code: i32, _argument: pg_sys::Datum) {
    remove();
}
