//! Models and checkpoints as arguments: the types `regmodel` and `regcheckpoint`, which are to them what `regclass` is
//! to tables. A value is the key; names become keys when PostgreSQL reads the text.
#![allow(unsafe_code)]

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::{FromDatum, Uuid as SqlUuid};
use pgrx::pg_sys;
use uuid::Uuid;

/// A model; it need not exist.
#[derive(Clone, Copy, Debug)]
pub struct Regmodel(pub Uuid);

/// A checkpoint; it need not exist.
#[derive(Clone, Copy, Debug)]
pub struct Regcheckpoint(pub Uuid);

macro_rules! key_argument {
    ($type:ident, $sql:literal) => {
        impl FromDatum for $type {
            unsafe fn from_polymorphic_datum(
                datum: pg_sys::Datum,
                is_null: bool,
                _typoid: pg_sys::Oid,
            ) -> Option<Self> {
                // SAFETY: pgrx passes a datum of the declared type, whose values are those of uuid.
                let id =
                    unsafe { SqlUuid::from_polymorphic_datum(datum, is_null, pg_sys::UUIDOID) };
                id.map(|id| $type(Uuid::from_bytes(*id.as_bytes())))
            }
        }

        // SAFETY: the datum is of the declared SQL type; the value is a copy of its sixteen bytes.
        unsafe impl<'fcx> ArgAbi<'fcx> for $type {
            unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
                // SAFETY: as above.
                match unsafe { arg.unbox_arg_using_from_datum() } {
                    Some(value) => value,
                    None => crate::error::Failure::new(
                        crate::error::Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                        "argument must not be null",
                    )
                    .raise(),
                }
            }
        }

        pgrx::impl_sql_translatable!($type, $sql);
    };
}

key_argument!(Regmodel, "regmodel");
key_argument!(Regcheckpoint, "regcheckpoint");
