//! Memory of the server for one step of many.
#![allow(unsafe_code)]

use pgrx::pg_sys;

/// Runs one step of many. Parameters of its statements and what was read of their rows lie in the server's memory and
/// would stay until the function ends; here they go with the step. What it returns must lie elsewhere.
pub fn in_scratch_memory<T>(step: impl FnOnce() -> T) -> T {
    // SAFETY: main thread. The new context is the current one while the step runs and is deleted when it ends. After an
    // error it stays, as a child of the caller's context, and goes with that.
    unsafe {
        let before = pg_sys::CurrentMemoryContext;
        let scratch = pg_sys::AllocSetContextCreateInternal(
            before,
            c"pg_modelstore step".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        pg_sys::CurrentMemoryContext = scratch;
        let result = step();
        pg_sys::CurrentMemoryContext = before;
        pg_sys::MemoryContextDelete(scratch);
        result
    }
}
