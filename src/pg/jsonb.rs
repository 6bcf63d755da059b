//! jsonb values that are passed on unchanged: numbers keep their digits, even if no Rust type can represent them.
#![allow(unsafe_code)]

use crate::error::{Code, Failure, Result};
use crate::pg::varlena::{Detoasted, varlena_argument};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// A jsonb argument.
pub struct Jsonb<'a>(pub Detoasted<'a>);

varlena_argument!(Jsonb, Detoasted, "jsonb");

impl Jsonb<'_> {
    /// Returns its text.
    pub fn text(&self) -> Result<String> {
        // SAFETY: the datum is a whole jsonb value; the result is a palloc'd C string.
        let text = unsafe {
            pgrx::direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(self.0.datum())])
        };
        text.and_then(|text| text.to_str().ok())
            .map(str::to_owned)
            .ok_or_else(not_utf8)
    }

    /// Calls `each` with the parts in order, and checks for interrupts regularly: printing a large value takes seconds
    /// and cannot be cancelled.
    pub fn walk(&self, each: &mut dyn FnMut(Token<'_>) -> Result<()>) -> Result<()> {
        /// Parts between two checks: about a millisecond.
        const CHECK: usize = 2048;
        let mut is_scalar = false;
        // SAFETY: the datum is a whole jsonb value, and all zeros is a valid value of the struct. The iterator writes a
        // part into it, or none; the part's strings and numbers are in the datum, which lives as long as self.
        unsafe {
            let jsonb = self.0.datum().cast_mut_ptr::<pg_sys::Jsonb>();
            let mut iterator = pg_sys::JsonbIteratorInit(&mut (*jsonb).root);
            let mut part: pg_sys::JsonbValue = std::mem::zeroed();
            for nth in 1usize.. {
                if nth.is_multiple_of(CHECK) {
                    pgrx::check_for_interrupts!();
                }
                use pg_sys::JsonbIteratorToken as T;
                match pg_sys::JsonbIteratorNext(&mut iterator, &mut part, false) {
                    T::WJB_DONE => break,
                    // A scalar is stored as an array of one element with this flag.
                    T::WJB_BEGIN_ARRAY if part.val.array.rawScalar => is_scalar = true,
                    T::WJB_END_ARRAY if is_scalar => {}
                    T::WJB_BEGIN_ARRAY => each(Token::BeginArray)?,
                    T::WJB_END_ARRAY => each(Token::EndArray)?,
                    T::WJB_BEGIN_OBJECT => each(Token::BeginObject)?,
                    T::WJB_END_OBJECT => each(Token::EndObject)?,
                    T::WJB_KEY => each(Token::Key(string(&part)?))?,
                    _ => scalar(&part, each)?,
                }
            }
        }
        Ok(())
    }

    /// Returns whether it is an object.
    pub fn is_object(&self) -> bool {
        // `src/include/utils/jsonb.h`: the flag JB_FOBJECT of the first word.
        let word = self.0.bytes().first_chunk::<4>();
        word.is_some_and(|word| u32::from_ne_bytes(*word) & 0x2000_0000 != 0)
    }
}

/// A part of a jsonb value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Start of an array.
    BeginArray,
    /// End of the innermost array.
    EndArray,
    /// Start of an object.
    BeginObject,
    /// End of the innermost object.
    EndObject,
    /// The name of a member; its value follows.
    Key(&'a str),
    /// null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number as text.
    Number(&'a str),
    /// A string.
    String(&'a str),
}

impl Token<'_> {
    /// Returns its name in messages.
    pub fn kind(self) -> &'static str {
        match self {
            Token::Null => "null",
            Token::Bool(_) => "a boolean",
            Token::Number(_) => "a number",
            Token::String(_) | Token::Key(_) => "a string",
            Token::BeginArray | Token::EndArray => "a list",
            Token::BeginObject | Token::EndObject => "an object",
        }
    }
}

/// # Safety
/// The part is a string or a key, which outlives the result.
unsafe fn string(part: &pg_sys::JsonbValue) -> Result<&str> {
    // SAFETY: the caller's promise; the length is that of the string.
    let bytes = unsafe {
        let string = part.val.string;
        std::slice::from_raw_parts(string.val.cast::<u8>(), string.len as usize)
    };
    std::str::from_utf8(bytes).map_err(|_| not_utf8())
}

/// # Safety
/// The part is an element or the value of a member, as the iterator made it.
unsafe fn scalar(
    part: &pg_sys::JsonbValue,
    each: &mut dyn FnMut(Token<'_>) -> Result<()>,
) -> Result<()> {
    use pg_sys::jbvType as V;
    // SAFETY: the tag says which field is set. The text of a number is freed here, or with its memory context if an
    // error unwinds.
    unsafe {
        match part.type_ {
            V::jbvNull => each(Token::Null),
            V::jbvBool => each(Token::Bool(part.val.boolean)),
            V::jbvString => each(Token::String(string(part)?)),
            V::jbvNumeric => {
                let datum = pg_sys::Datum::from(part.val.numeric);
                let text = pgrx::direct_function_call_as_datum(pg_sys::numeric_out, &[Some(datum)]);
                let text = text.map_or(c"".as_ptr(), |text| text.cast_mut_ptr());
                let result = each(Token::Number(CStr::from_ptr(text).to_str().unwrap_or("")));
                pg_sys::pfree(text.cast_mut().cast());
                result
            }
            other => Err(Failure::new(
                Code::ERRCODE_DATA_CORRUPTED,
                format!("unexpected part {other} of a jsonb value"),
            )),
        }
    }
}

fn not_utf8() -> Failure {
    Failure::new(
        Code::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
        "jsonb value is not UTF-8",
    )
}

/// A jsonb result.
pub struct JsonbOut(pg_sys::Datum);

impl JsonbOut {
    /// Parses text.
    pub fn from_text(text: String) -> Result<JsonbOut> {
        let text = CString::new(text).map_err(|_| {
            Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "json text contains a zero byte",
            )
        })?;
        let argument = pg_sys::Datum::from(text.as_ptr());
        // SAFETY: reads the text up to its zero byte; the result is a palloc'd jsonb value, or an error is raised.
        let jsonb =
            unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(argument)]) };
        jsonb.map(JsonbOut).ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_INTERNAL_ERROR,
                "reading json text gave nothing",
            )
        })
    }
}

// SAFETY: the datum is a complete palloc'd jsonb value.
unsafe impl pgrx::callconv::BoxRet for JsonbOut {
    unsafe fn box_into<'fcx>(
        self,
        fcinfo: &mut pgrx::callconv::FcInfo<'fcx>,
    ) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: of the declared type.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

pgrx::impl_sql_translatable!(JsonbOut, "jsonb");
