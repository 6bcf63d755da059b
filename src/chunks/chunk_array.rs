//! Many chunks as one parameter of a statement.
#![allow(unsafe_code)]

use crate::pg::arguments::chunk;
use crate::pg::varlena::Building;
use pgrx::datum::{DatumWithOid, IntoDatum};
use pgrx::pg_sys;

/// Builds a `tensor_chunk[]` with a copy of each value.
pub fn chunk_array<'a>(values: &[Building]) -> DatumWithOid<'a> {
    let element = match values.first() {
        Some(value) => chunk(value).oid(),
        None => return DatumWithOid::null_oid(pg_sys::InvalidOid),
    };
    let mut datums: Vec<pg_sys::Datum> = values.iter().map(Building::datum).collect();
    let (mut len, mut by_value, mut align) = (0, false, 0);
    // SAFETY: main thread. Each datum is a complete varlena of the element type that lives until this returns; the
    // array is a fresh copy in the current memory context.
    unsafe {
        pg_sys::get_typlenbyvalalign(element, &mut len, &mut by_value, &mut align);
        let array = pg_sys::construct_array(
            datums.as_mut_ptr(),
            datums.len() as i32,
            element,
            len.into(),
            by_value,
            align,
        );
        let array = Some(Array(pg_sys::Datum::from(array)));
        DatumWithOid::new(array, pg_sys::get_array_type(element))
    }
}

/// A datum that is passed as it is.
struct Array(pg_sys::Datum);

impl IntoDatum for Array {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}
