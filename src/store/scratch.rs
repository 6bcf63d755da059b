//! Memory of the server for one step of many.
#![allow(unsafe_code)]

use pgrx::PgMemoryContexts;

/// Runs one step of many. Parameters of its statements and what was read of their rows lie in the server's memory and
/// would stay until the function ends; here they go with the step. What it returns must lie elsewhere.
pub fn in_scratch_memory<T>(step: impl FnOnce() -> T) -> T {
    let mut memory = PgMemoryContexts::new("pg_modelstore step");
    // SAFETY: main thread. The context is the current one until the step ends, by unwinding as well, and deleted then.
    unsafe { memory.switch_to(|_| step()) }
}
