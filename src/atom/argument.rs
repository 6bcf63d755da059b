//! The composite type `modelstore.atom` as an argument.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result, required};
use modelstore_atom::Key;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::datum::FromDatum;
use pgrx::pg_sys;

/// The three codes of an atom's key, each possibly NULL.
pub struct AtomArgument([Option<i64>; 3]);

/// Returns the key in an argument; an error for NULL, a NULL code, and codes that are not a key.
pub fn key_argument(atom: Option<AtomArgument>, name: &str) -> Result<Key> {
    let [h_xy, h_yz, h_zm] = required(atom, name)?.0;
    let key = Key {
        h_xy: required(h_xy, &format!("{name}.h_xy"))?,
        h_yz: required(h_yz, &format!("{name}.h_yz"))?,
        h_zm: required(h_zm, &format!("{name}.h_zm"))?,
    };
    key.parts()?;
    Ok(key)
}

impl FromDatum for AtomArgument {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: pgrx passes a datum of the declared type, which is composite; detoasted it is a tuple with its
        // header, and the type has three columns of type bigint, passed by value.
        unsafe {
            let tuple = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast();
            Some(AtomArgument([1, 2, 3].map(|column| {
                let mut is_null = false;
                let code = pg_sys::GetAttributeByNum(tuple, column, &mut is_null);
                (!is_null).then(|| code.value() as i64)
            })))
        }
    }
}

// SAFETY: the datum has the declared SQL type and lives as long as the call; the codes are copied out of it.
unsafe impl<'fcx> ArgAbi<'fcx> for AtomArgument {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        match unsafe { arg.unbox_arg_using_from_datum() } {
            Some(atom) => atom,
            None => Failure::new(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "argument must not be null",
            )
            .raise(),
        }
    }
}

pgrx::impl_sql_translatable!(AtomArgument, "atom");
