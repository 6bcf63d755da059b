//! Out of memory aborts the transaction, not the server.
//!
//! By default, Rust aborts the process when an allocation is refused; an aborting backend takes all other backends
//! down. An allocator must not unwind either, because its callers are compiled as if it never did. So a refused
//! allocation leaves by a long jump, as every error of PostgreSQL does: on the session's own thread it raises 53200; on
//! a worker it ends the job, and the job's owner raises the error.
//!
//! A long jump runs no destructors. It leaks what the skipped frames own, at most the buffers of a call. State that is
//! shared between calls is therefore never borrowed or half changed during an allocation: it is taken out of its cell
//! and put back.
#![allow(unsafe_code)]

use crate::error::OUT_OF_MEMORY;
use cee_scape::{SigJmpBufFields, call_with_sigsetjmp, siglongjmp};
use pgrx::PgLogLevel;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// The system allocator, except that a refused allocation raises an error.
struct RaisingAllocator;

#[global_allocator]
static ALLOCATOR: RaisingAllocator = RaisingAllocator;

thread_local! {
    static IS_SESSION: Cell<bool> = const { Cell::new(false) };
    /// The jump target of a worker's job.
    static JOB: Cell<*const SigJmpBufFields> = const { Cell::new(std::ptr::null()) };
}

/// Marks this thread as the session's own, on which errors of PostgreSQL are raised.
pub fn on_session_thread() {
    IS_SESSION.set(true);
}

/// Runs a job of a worker; panics with [`OUT_OF_MEMORY`] if an allocation in it is refused.
pub fn run_job<R>(job: impl FnOnce() -> R) -> R {
    let mut result = None;
    let mut job = Some(job);
    // SAFETY: the jump is only made while this frame is alive, as the target is reset below; the skipped frames leak.
    let jumped = call_with_sigsetjmp(false, |target| {
        JOB.set(target);
        // No panic may cross the frame of the jump target.
        result = job.take().map(|job| catch_unwind(AssertUnwindSafe(job)));
        0
    });
    JOB.set(std::ptr::null());
    match result {
        Some(Ok(result)) if jumped == 0 => result,
        Some(Err(panic)) if jumped == 0 => resume_unwind(panic),
        _ => panic!("{OUT_OF_MEMORY}"),
    }
}

unsafe extern "C" {
    // PostgreSQL's own function, without pgrx's guard, which would turn the error into a panic and so into unwinding.
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(code: c_int) -> c_int;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errdetail(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
}

#[cold]
fn refused(layout: Layout, again: impl Fn() -> *mut u8) -> *mut u8 {
    // SAFETY: on the session's thread, PostgreSQL's error functions may be called anywhere; they only need memory that
    // is reserved for errors. The job's target belongs to a frame below on this same thread.
    unsafe {
        if IS_SESSION.get() {
            if errstart(PgLogLevel::ERROR as c_int, std::ptr::null()) {
                errcode(pgrx::pg_sys::errcodes::PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
                errmsg(c"out of memory".as_ptr());
                errdetail(c"Failed on request of size %zu.".as_ptr(), layout.size());
            }
            errfinish(c"allocator.rs".as_ptr(), 0, c"alloc".as_ptr());
        }
        let job = JOB.replace(std::ptr::null());
        if !job.is_null() {
            siglongjmp(job, 1);
        }
    }
    // A worker between jobs: wait until memory is available again or the session ends.
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let memory = again();
        if !memory.is_null() {
            return memory;
        }
    }
}

// SAFETY: every call is forwarded to the system allocator with the caller's arguments. A null result is never returned:
// then the function does not return, and leaves by any way but unwinding.
unsafe impl GlobalAlloc for RaisingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() {
            return refused(layout, || unsafe { System.alloc(layout) });
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() {
            return refused(layout, || unsafe { System.alloc_zeroed(layout) });
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let grown = unsafe { System.realloc(memory, layout, new_size) };
        if grown.is_null() {
            return refused(layout, || unsafe {
                System.realloc(memory, layout, new_size)
            });
        }
        grown
    }
}
