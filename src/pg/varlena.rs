//! The only module that touches varlena memory; it serves both types.
//!
//! A value reaches Rust in one of two ways: [`Detoasted`] is entirely in memory (not copied if it was inline, copied
//! once if it was toasted), [`Toasted`] stays where it is and is read in pieces. [`Building`] is a result under
//! construction, in memory that PostgreSQL owns.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result};
use pgrx::pg_sys;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The largest varlena PostgreSQL can hold, without its length word.
pub const MAX_BYTES: usize = 0x3FFF_FFFF - pg_sys::VARHDRSZ;

/// All bytes of a value, after its length word. They start 4 bytes after an 8-byte boundary.
pub struct Detoasted<'a> {
    ptr: NonNull<pg_sys::varlena>,
    /// Whether detoasting made a copy, which we have to free.
    owned: bool,
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> Detoasted<'a> {
    /// # Safety
    /// `datum` is a non-null varlena that outlives `'a`.
    pub unsafe fn from_datum(datum: pg_sys::Datum) -> Detoasted<'a> {
        let original = datum.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: the caller's promise. pg_detoast_datum also expands 1-byte headers, so a 4-byte one follows.
        let ptr = unsafe { pg_sys::pg_detoast_datum(original) };
        match NonNull::new(ptr) {
            Some(nonnull) => Detoasted {
                ptr: nonnull,
                owned: ptr != original,
                lifetime: PhantomData,
            },
            None => Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "null pointer for a value that is not null",
            )
            .raise(),
        }
    }

    /// Returns the datum, for functions of PostgreSQL.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.ptr.as_ptr())
    }

    /// Returns the bytes after the length word.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: a detoasted datum has a 4-byte header with its length; it lives as long as self.
        unsafe {
            let p = self.ptr.as_ptr();
            std::slice::from_raw_parts(
                pgrx::vardata_4b(p).cast(),
                pgrx::varsize_4b(p) - pg_sys::VARHDRSZ,
            )
        }
    }
}

impl Drop for Detoasted<'_> {
    fn drop(&mut self) {
        // While unwinding, the memory context may already be gone: leave the bytes to it.
        if self.owned && !std::thread::panicking() {
            // SAFETY: the copy was palloc'd for us by pg_detoast_datum and has no other owner.
            unsafe { pg_sys::pfree(self.ptr.as_ptr().cast()) }
        }
    }
}

/// A value that stays inline or in its TOAST table until a piece of it is requested.
#[derive(Clone, Copy)]
pub struct Toasted<'a> {
    ptr: NonNull<pg_sys::varlena>,
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> Toasted<'a> {
    /// # Safety
    /// `datum` is a non-null varlena that outlives `'a`.
    pub unsafe fn from_datum(datum: pg_sys::Datum) -> Toasted<'a> {
        match NonNull::new(datum.cast_mut_ptr::<pg_sys::varlena>()) {
            Some(ptr) => Toasted {
                ptr,
                lifetime: PhantomData,
            },
            None => Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "null pointer for a value that is not null",
            )
            .raise(),
        }
    }

    fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.ptr.as_ptr())
    }

    /// Returns the number of bytes of the whole value without its length word; reads no TOAST piece.
    pub fn len(&self) -> usize {
        // SAFETY: the constructor's promise.
        unsafe { pg_sys::toast_raw_datum_size(self.datum()) }.saturating_sub(pg_sys::VARHDRSZ)
    }

    /// Returns whether TOAST compressed it: a piece then cannot be read without the bytes before it.
    pub fn is_compressed(&self) -> bool {
        // SAFETY: the constructor's promise.
        let stored = unsafe { pg_sys::toast_datum_size(self.datum()) };
        stored + pg_sys::VARHDRSZ < self.len()
    }

    /// Returns whether it is in a TOAST table, or elsewhere out of line.
    pub fn is_out_of_line(&self) -> bool {
        // SAFETY: the constructor's promise; reads the first byte.
        unsafe { pgrx::varlena::varatt_is_1b_e(self.ptr.as_ptr()) }
    }

    /// Returns bytes `offset .. offset + len`, clamped to the end of the value; reads only the TOAST pieces that
    /// contain them.
    pub fn slice(&self, offset: usize, len: usize) -> Detoasted<'a> {
        let clamp = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        // SAFETY: the constructor's promise; the result is a fresh palloc'd datum with a 4-byte header.
        let ptr =
            unsafe { pg_sys::pg_detoast_datum_slice(self.ptr.as_ptr(), clamp(offset), clamp(len)) };
        match NonNull::new(ptr) {
            Some(ptr) => Detoasted {
                ptr,
                owned: true,
                lifetime: PhantomData,
            },
            None => Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "detoasting a slice returned nothing",
            )
            .raise(),
        }
    }

    /// Returns the whole value.
    pub fn whole(&self) -> Detoasted<'a> {
        // SAFETY: the constructor's promise.
        unsafe { Detoasted::from_datum(self.datum()) }
    }
}

/// A result under construction: palloc'd once, filled in place.
pub struct Building {
    ptr: NonNull<pg_sys::varlena>,
    len: usize,
}

impl Building {
    /// Allocates `len` zeroed bytes after the length word.
    pub fn zeroed(len: usize) -> Result<Building> {
        let building = Building::with_length(len)?;
        // SAFETY: len bytes follow the length word.
        unsafe { std::ptr::write_bytes(building.payload(), 0, len) }
        Ok(building)
    }

    /// Concatenates these bytes.
    pub fn from_parts(parts: &[&[u8]]) -> Result<Building> {
        let building = Building::with_length(parts.iter().map(|p| p.len()).sum())?;
        let mut at = 0;
        for part in parts {
            // SAFETY: the parts' lengths add up to the length of the value; fresh memory overlaps with nothing.
            unsafe {
                building
                    .payload()
                    .add(at)
                    .copy_from_nonoverlapping(part.as_ptr(), part.len())
            };
            at += part.len();
        }
        Ok(building)
    }

    /// Allocates memory and sets the length word. The rest is uninitialized: callers write all of it.
    fn with_length(len: usize) -> Result<Building> {
        if len > MAX_BYTES {
            return Err(Failure::new(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("value of {len} bytes is too large"),
            )
            .detail(format!("A value holds at most {MAX_BYTES} bytes.")));
        }
        let total = len + pg_sys::VARHDRSZ;
        // SAFETY: palloc gives total bytes, aligned for any type, or raises; the length word lies inside them.
        unsafe {
            let ptr = pg_sys::palloc(total).cast::<pg_sys::varlena>();
            let Some(nonnull) = NonNull::new(ptr) else {
                return Err(Failure::new(Code::ERRCODE_OUT_OF_MEMORY, "out of memory"));
            };
            pgrx::set_varsize_4b(ptr, total as i32);
            Ok(Building { ptr: nonnull, len })
        }
    }

    fn payload(&self) -> *mut u8 {
        // SAFETY: points to a varlena with a 4-byte header.
        unsafe { pgrx::vardata_4b(self.ptr.as_ptr()).cast::<u8>().cast_mut() }
    }

    /// Returns the bytes after the length word, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: len bytes follow the header, initialized by both constructors; self is borrowed mutably, so there is
        // no other reference.
        unsafe { std::slice::from_raw_parts_mut(self.payload(), self.len) }
    }

    /// Returns the datum while we still own the value: for a parameter of a statement.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.ptr.as_ptr())
    }

    /// Returns the finished datum; the current memory context owns it.
    pub fn into_datum(self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.ptr.as_ptr())
    }

    /// Frees the memory before the context would.
    pub fn free(self) {
        // SAFETY: palloc'd by us; self is consumed, so there is no other user.
        unsafe { pg_sys::pfree(self.ptr.as_ptr().cast()) }
    }
}

/// Implements what pgrx requires of an argument or a result for a wrapper around one of the structs above.
/// `$wrapper(inner)` must be a tuple struct of one field.
macro_rules! varlena_argument {
    ($wrapper:ident, $inner:ident, $sql:literal) => {
        #[allow(unsafe_code)]
        impl pgrx::datum::FromDatum for $wrapper<'_> {
            unsafe fn from_polymorphic_datum(
                datum: pgrx::pg_sys::Datum,
                is_null: bool,
                _typoid: pgrx::pg_sys::Oid,
            ) -> Option<Self> {
                // SAFETY: pgrx passes a datum of the declared type that lives as long as the call.
                if is_null {
                    None
                } else {
                    Some($wrapper(unsafe {
                        $crate::pg::varlena::$inner::from_datum(datum)
                    }))
                }
            }
        }

        // SAFETY: the datum is of the declared SQL type and lives as long as the call.
        #[allow(unsafe_code)]
        unsafe impl<'fcx> pgrx::callconv::ArgAbi<'fcx> for $wrapper<'fcx> {
            unsafe fn unbox_arg_unchecked(arg: pgrx::callconv::Arg<'_, 'fcx>) -> Self {
                match unsafe { arg.unbox_arg_using_from_datum() } {
                    Some(value) => value,
                    None => $crate::error::Failure::new(
                        $crate::error::Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                        "argument must not be null",
                    )
                    .raise(),
                }
            }
        }

        pgrx::impl_sql_translatable!($wrapper<'_>, $sql);
    };
}

macro_rules! varlena_result {
    ($wrapper:ident, $sql:literal, $oid:expr) => {
        impl pgrx::datum::IntoDatum for $wrapper {
            fn into_datum(self) -> Option<pgrx::pg_sys::Datum> {
                Some(self.0.into_datum())
            }

            fn type_oid() -> pgrx::pg_sys::Oid {
                $oid
            }
        }

        // SAFETY: the datum is a complete palloc'd varlena of the declared type.
        #[allow(unsafe_code)]
        unsafe impl pgrx::callconv::BoxRet for $wrapper {
            unsafe fn box_into<'fcx>(
                self,
                fcinfo: &mut pgrx::callconv::FcInfo<'fcx>,
            ) -> pgrx::datum::Datum<'fcx> {
                unsafe { fcinfo.return_raw_datum(self.0.into_datum()) }
            }
        }

        pgrx::impl_sql_translatable!($wrapper, $sql);
    };
}

pub(crate) use {varlena_argument, varlena_result};
