//! Server memory for one step of a loop.
#![allow(unsafe_code)]

use pgrx::pg_sys;

/// Runs one step of a loop in a memory context of its own. Statement parameters and copies of values are palloc'd and
/// would otherwise be kept until the function ends. The result must not be allocated there.
pub fn in_scratch_memory<T>(step: impl FnOnce() -> T) -> T {
    // SAFETY: main thread. The new context is current while the step runs and is deleted when it ends. After an error
    // it stays, as a child of the caller's context, and is deleted with that.
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
