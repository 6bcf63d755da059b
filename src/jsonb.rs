//! jsonb values that pass through as they are: a number stays the one that was written, also where no type of Rust
//! holds it.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result};
use crate::varlena::{Detoasted, varlena_argument};
use pgrx::pg_sys;
use serde_json::Value;
use std::ffi::CStr;

/// A jsonb argument.
pub struct Jsonb<'a>(pub Detoasted<'a>);

varlena_argument!(Jsonb, Detoasted, "jsonb");

impl Jsonb<'_> {
    /// Its text.
    pub fn text(&self) -> Result<String> {
        // SAFETY: the datum is a whole jsonb value; the result is a palloc'd C string.
        let text = unsafe {
            pgrx::direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(self.0.datum())])
        };
        text.and_then(|text| text.to_str().ok())
            .map(str::to_owned)
            .ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
                    "jsonb value is not UTF-8",
                )
            })
    }

    /// The value, where numbers that a double does not hold are an error.
    pub fn value(&self) -> Result<Value> {
        serde_json::from_str(&self.text()?).map_err(|e| {
            Failure::new(
                Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                format!("could not read jsonb value: {e}"),
            )
            .detail("Its numbers must be in the range of double precision.")
        })
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        // `src/include/utils/jsonb.h`: the flag JB_FOBJECT of the first word.
        let word = self.0.bytes().first_chunk::<4>();
        word.is_some_and(|word| u32::from_ne_bytes(*word) & 0x2000_0000 != 0)
    }
}
