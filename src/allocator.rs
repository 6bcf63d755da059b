//! Out of memory aborts the transaction, not the server.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// The system allocator, except that a refused allocation unwinds. Rust's own answer to a null pointer is to
/// abort the process, and a backend that aborts takes every other backend down with it.
struct UnwindingAllocator;

#[global_allocator]
static ALLOCATOR: UnwindingAllocator = UnwindingAllocator;

#[cold]
fn refused(bytes: usize) -> ! {
    // The payload is built without a large allocation; on the main thread pgrx turns it into an ERROR, on a
    // worker the pipeline hands it to the main thread.
    panic!("out of memory: could not allocate {bytes} bytes")
}

// SAFETY: every call is forwarded to the system allocator with the caller's own arguments; a null result is never
// returned to the caller, which is within the contract (diverging is always allowed).
unsafe impl GlobalAlloc for UnwindingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let p = unsafe { System.alloc(layout) };
        if p.is_null() {
            refused(layout.size())
        } else {
            p
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let p = unsafe { System.alloc_zeroed(layout) };
        if p.is_null() {
            refused(layout.size())
        } else {
            p
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let p = unsafe { System.realloc(ptr, layout, new_size) };
        if p.is_null() { refused(new_size) } else { p }
    }
}
