//! A complete upload becomes a file of a model or a checkpoint.

use crate::error::Result;
use crate::formats::safetensors::import::{FileIn, StoredBody};
use crate::io::Source;
use crate::model::state_dict::StateDict;
use crate::store::Store;
use crate::upload::parsed::Parsed;
use crate::upload::row::{UploadRow, broken};
use crate::upload::waiting::Waiting;
use crate::upload::{copy, pieces};
use modelstore_chunk::write::streaming::StreamHashes;
use uuid::Uuid;

/// What an upload has received.
pub enum Received {
    /// A safetensors file whose chunks are stored.
    Stored(StoredBody),
    /// Any other bytes.
    Other(Waiting),
}

impl Received {
    /// As a safetensors file of this name; an error that says what it is if it is none.
    pub fn file<'a>(self, name: &'a str, space: &'a mut Option<Waiting>) -> Result<FileIn<'a>> {
        match self {
            Received::Stored(body) => Ok(FileIn::stored(name, body)),
            Received::Other(bytes) => FileIn::open(name, space.insert(bytes) as &mut dyn Source),
        }
    }
}

/// Takes an upload that is complete, gives it to `take` with the parent model it was begun with, and deletes it.
pub fn consume<T>(
    upload: Uuid,
    take: impl FnOnce(Received, Option<Uuid>) -> Result<T>,
) -> Result<T> {
    copy::flush()?;
    let store = Store::current()?;
    let mut row = UploadRow::lock(&store, upload)?;
    row.check_complete()?;
    row.read_head(&store)?;
    let received = match row.head.take() {
        None => Received::Other(Waiting::new(store.clone(), upload, row.received)),
        Some(head) => {
            let Parsed {
                head,
                header,
                layout,
                ..
            } = Parsed::last_of(&store, &row, head)?;
            let hashes = row.hash_state.as_deref().and_then(StreamHashes::restore);
            let hashes = hashes.filter(|hashes| hashes.bytes() == row.received);
            Received::Stored(StoredBody {
                tensors: pieces::read(&store, upload, header.data_offset, &layout)?,
                hashes: hashes.ok_or_else(|| broken(upload))?.file(),
                counts: (
                    row.new.chunks,
                    row.new.stored_bytes,
                    layout.bytes().saturating_sub(row.new.raw_bytes),
                ),
                head,
                header,
            })
        }
    };
    let parent = match row.base {
        Some(StateDict::Model(model)) => Some(model),
        _ => None,
    };
    let result = take(received, parent)?;
    row.remove(&store)?;
    Ok(result)
}
