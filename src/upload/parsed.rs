//! The header of an upload, parsed.

use crate::error::Result;
use crate::pg::arguments::{from_sql_uuid, uuid};
use crate::store::Store;
use crate::upload::row::UploadRow;
use modelstore_chunk::write::streaming::{Expected, Layout};
use modelstore_formats::safetensors::{Header, LENGTH_BYTES, parse_header, parse_header_of_any};
use pgrx::datum::Uuid as SqlUuid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// Headers up to this size are kept between appends.
const KEPT_BYTES: usize = 16 << 20;

/// What a header says, and where the bytes go.
#[derive(Clone)]
pub struct Parsed {
    /// The upload, its parent and the size of its chunks.
    of: (Uuid, Option<Uuid>, u64),
    /// Length and JSON.
    pub head: Vec<u8>,
    pub header: Header,
    pub layout: Arc<Layout>,
}

thread_local! {
    /// Of the last upload of this session: to parse a header of 20 000 tensors takes longer than to store a mebibyte, and
    /// each append needs it. The bytes of the header are compared, so what is kept says what the row says. Of the parent it
    /// only knows which tensors were there, and those are looked up again.
    static LAST: RefCell<Option<Rc<Parsed>>> = const { RefCell::new(None) };
}

impl Parsed {
    /// Of an upload whose header, length and JSON, has these bytes.
    pub fn of(store: &Store, row: &UploadRow, head: Vec<u8>) -> Result<Rc<Parsed>> {
        let parsed = kept_or_parsed(store, row, head)?;
        if parsed.head.len() <= KEPT_BYTES {
            LAST.set(Some(Rc::clone(&parsed)));
        }
        Ok(parsed)
    }

    /// The same for the last time: nothing is kept.
    pub fn last_of(store: &Store, row: &UploadRow, head: Vec<u8>) -> Result<Parsed> {
        kept_or_parsed(store, row, head).map(Rc::unwrap_or_clone)
    }
}

fn identity(row: &UploadRow) -> (Uuid, Option<Uuid>, u64) {
    (row.id, row.base.map(|base| base.id()), row.chunk_bytes)
}

fn kept_or_parsed(store: &Store, row: &UploadRow, head: Vec<u8>) -> Result<Rc<Parsed>> {
    let last = LAST.take();
    match last.filter(|last| last.of == identity(row) && last.head == head) {
        Some(last) => Ok(last),
        None => parse(store, row, head).map(Rc::new),
    }
}

fn parse(store: &Store, row: &UploadRow, head: Vec<u8>) -> Result<Parsed> {
    let json = head.get(LENGTH_BYTES as usize..).unwrap_or_default();
    let header = match row.file_bytes.or(row.expected) {
        Some(bytes) => parse_header(json, bytes)?,
        None => parse_header_of_any(json)?,
    };
    Ok(Parsed {
        of: identity(row),
        layout: Arc::new(layout(store, row, &header)?),
        head,
        header,
    })
}

/// The tensors that a header describes.
fn layout(store: &Store, row: &UploadRow, header: &Header) -> Result<Layout> {
    let bases: HashMap<String, Uuid> = match row.base {
        None => HashMap::new(),
        Some(base) => store
            .rows(
                &base.sql("SELECT weight_name, tensor_id FROM @entries@ e WHERE @owner@ = $1"),
                &[uuid(base.id())],
                |row| Ok((row.get::<String>(1)?, from_sql_uuid(row.get::<SqlUuid>(2)?))),
            )?
            .into_iter()
            .collect(),
    };
    let tensors = header
        .tensors
        .iter()
        .map(|t| Expected {
            name: t.name.clone(),
            dtype: t.dtype,
            shape: t.shape.clone(),
            base: bases.get(&t.name).copied(),
        })
        .collect();
    Ok(Layout::new(tensors, row.chunk_bytes)?)
}
