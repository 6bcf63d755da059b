//! Catalog data that the session caches, and when to discard it.
#![allow(unsafe_code)]

use pgrx::pg_sys;
use std::cell::Cell;
use std::collections::HashSet;

thread_local! {
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static TYPES: Cell<u64> = const { Cell::new(0) };
    static RELATIONS: Cell<u64> = const { Cell::new(0) };
    /// Taken out of the cell while it grows.
    static WATCHED: Cell<HashSet<pg_sys::Oid>> = Cell::default();
}

/// Returns a number that grows whenever a type or a schema changes, after processing what other sessions have
/// committed.
pub fn types() -> u64 {
    take_note();
    TYPES.get()
}

/// Returns a number that grows whenever a schema or a watched relation changes.
pub fn relations() -> u64 {
    take_note();
    RELATIONS.get()
}

/// Counts changes of these relations from now on.
pub fn watch(relations: impl IntoIterator<Item = pg_sys::Oid>) {
    let mut watched = WATCHED.take();
    watched.extend(relations);
    WATCHED.set(watched);
}

fn take_note() {
    if !REGISTERED.replace(true) {
        use pg_sys::SysCacheIdentifier as Cache;
        let none = pg_sys::Datum::null();
        // SAFETY: main thread; the callbacks are static functions that only touch cells of this thread.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(Cache::TYPEOID as i32, Some(type_changed), none);
            pg_sys::CacheRegisterSyscacheCallback(
                Cache::NAMESPACEOID as i32,
                Some(schema_changed),
                none,
            );
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
        }
    }
    // SAFETY: main thread, inside a transaction; every lock of a relation does the same.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

fn count(of: &'static std::thread::LocalKey<Cell<u64>>) {
    of.set(of.get() + 1);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn type_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    count(&TYPES);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn schema_changed(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    count(&TYPES);
    count(&RELATIONS);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let watched = WATCHED.take();
    let is_watched = watched.contains(&relation);
    WATCHED.set(watched);
    // An invalid OID means all relations.
    if is_watched || relation == pg_sys::InvalidOid {
        count(&RELATIONS);
    }
}
