//! The row of an upload.

use crate::chunks::spi_chunks::suppressed;
use crate::error::{Code, Failure, Result};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{bytes, from_sql_uuid, maybe_bytes, now, uuid};
use crate::store::Store;
use modelstore_chunk::write::Inserted;
use pgrx::datum::Uuid as SqlUuid;
use uuid::Uuid;

/// Bytes of a row that waits: a value of a gigabyte cannot be made.
const MAX_WAITING_ROW: usize = 64 << 20;

/// What is recorded of an upload.
pub struct UploadRow {
    pub id: Uuid,
    /// Size that the user announced.
    pub expected: Option<u64>,
    /// Size that the header says, once it is complete.
    pub file_bytes: Option<u64>,
    pub received: u64,
    /// Bytes received at which the next step is possible: the header or a piece is complete. `None` for a file of another
    /// format, which waits as it is.
    pub wanted: Option<u64>,
    /// Length and JSON of the header, once it is complete and has been read with `read_head`.
    pub head: Option<Vec<u8>>,
    /// State of the hashes of what is stored, read with the header.
    pub hash_state: Option<Vec<u8>>,
    /// Size of chunks.
    pub chunk_bytes: u64,
    /// Whose tensors of the same names the new ones may be stored as differences to.
    pub base: Option<StateDict>,
    /// Chunks that the store did not have, their encoded and their raw bytes.
    pub new: Inserted,
}

impl UploadRow {
    /// Takes the upload for this transaction.
    pub fn lock(store: &Store, id: Uuid) -> Result<UploadRow> {
        store
            .write(
                "SELECT expected_bytes, file_bytes, received_bytes, wanted_bytes, chunk_bytes,
                        parent_model_id, parent_checkpoint_id, new_chunks, new_bytes, new_raw_bytes
                 FROM @store@.uploads WHERE upload_id = $1 FOR UPDATE",
                &[uuid(id)],
                |row| {
                    let size = |n| {
                        Ok::<_, Failure>(row.opt::<i64>(n)?.and_then(|n| u64::try_from(n).ok()))
                    };
                    let base = |n| Ok::<_, Failure>(row.opt::<SqlUuid>(n)?.map(from_sql_uuid));
                    Ok(UploadRow {
                        id,
                        expected: size(1)?,
                        file_bytes: size(2)?,
                        received: size(3)?.unwrap_or(0),
                        wanted: size(4)?,
                        head: None,
                        hash_state: None,
                        chunk_bytes: row.get::<i32>(5)? as u64,
                        base: bases([base(6)?, base(7)?]).next(),
                        new: Inserted {
                            chunks: size(8)?.unwrap_or(0),
                            stored_bytes: size(9)?.unwrap_or(0),
                            raw_bytes: size(10)?.unwrap_or(0),
                        },
                    })
                },
            )?
            .pop()
            .ok_or_else(|| unknown(store, id))
    }

    /// Reads the header and the state of the hashes: small appends need neither, and a header can have megabytes.
    pub fn read_head(&mut self, store: &Store) -> Result<()> {
        let (mut head, mut hash_state) = (Vec::new(), Vec::new());
        let (mut has_head, mut has_state) = (false, false);
        store.query(
            "SELECT header, hash_state FROM @store@.uploads WHERE upload_id = $1",
            &[uuid(self.id)],
            |row| {
                has_head = row.append_bytes(1, &mut head)?;
                has_state = row.append_bytes(2, &mut hash_state)?;
                Ok(())
            },
        )?;
        self.head = has_head.then_some(head);
        self.hash_state = has_state.then_some(hash_state);
        Ok(())
    }

    /// An error if it would become larger than it may.
    pub fn check_size(&self, end: u64) -> Result<()> {
        let (limit, what) = match (self.file_bytes, self.expected) {
            (Some(bytes), _) => (bytes, "The header describes a file of"),
            (None, Some(bytes)) => (bytes, "begin_upload announced"),
            (None, None) => return Ok(()),
        };
        if end <= limit {
            return Ok(());
        }
        Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("upload {} would grow to {end} bytes", self.id),
        )
        .detail(format!("{what} {limit} bytes."))
        .hint(format!("SELECT modelstore.abort_upload('{}');", self.id)))
    }

    /// Writes what an append has changed.
    pub fn save(&self, store: &Store) -> Result<()> {
        let size = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
        let saved = store.execute(
            // A header is written once; a hash state that was not read is kept.
            "UPDATE @store@.uploads
             SET received_bytes = $2, wanted_bytes = $3, file_bytes = $4, header = coalesce(header, $5),
                 hash_state = coalesce($6, hash_state), new_chunks = $7, new_bytes = $8, new_raw_bytes = $9, updated_at = $10
             WHERE upload_id = $1",
            &[
                uuid(self.id),
                size(Some(self.received)).into(),
                size(self.wanted).into(),
                size(self.file_bytes).into(),
                maybe_bytes(self.head.as_deref()),
                maybe_bytes(self.hash_state.as_deref()),
                size(Some(self.new.chunks)).into(),
                size(Some(self.new.stored_bytes)).into(),
                size(Some(self.new.raw_bytes)).into(),
                now(),
            ],
        )?;
        match saved {
            0 => Err(unknown(store, self.id)),
            _ => Ok(()),
        }
    }

    /// An error unless all bytes are there.
    pub fn check_complete(&self) -> Result<()> {
        let Some(bytes) = self.file_bytes.or(self.expected) else {
            return Ok(());
        };
        if self.received == bytes {
            return Ok(());
        }
        Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("upload {} is not complete", self.id),
        )
        .detail(format!(
            "It has received {} of {bytes} bytes.",
            self.received
        ))
        .hint(format!("SELECT modelstore.upload_offset('{}');", self.id)))
    }

    /// Deletes the upload and its parts.
    pub fn remove(&self, store: &Store) -> Result<()> {
        store.execute(
            "DELETE FROM @store@.uploads WHERE upload_id = $1",
            &[uuid(self.id)],
        )?;
        Ok(())
    }
}

/// The error for an upload that does not exist.
pub fn unknown(store: &Store, upload: Uuid) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("upload {upload} does not exist"),
    )
    .detail("It was never started, or has been finished or aborted.")
    .hint(store.sql("SELECT * FROM @store@.v_uploads;"))
}

/// The error for an upload whose rows contradict each other.
pub fn broken(upload: Uuid) -> Failure {
    Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!("parts of upload {upload} do not follow each other"),
    )
    .hint(format!("SELECT modelstore.abort_upload('{upload}');"))
}

/// The model and the checkpoint, as far as they are given.
pub fn bases([model, checkpoint]: [Option<Uuid>; 2]) -> impl Iterator<Item = StateDict> {
    let model = model.map(StateDict::Model);
    model
        .into_iter()
        .chain(checkpoint.map(StateDict::Checkpoint))
}

/// A new upload.
pub fn insert(
    store: &Store,
    expected: Option<i64>,
    parents: [Option<Uuid>; 2],
    chunk_bytes: u64,
) -> Result<Uuid> {
    let id = Uuid::now_v7();
    let [model, checkpoint] = parents.map(crate::pg::arguments::maybe_uuid);
    store.execute(
        "INSERT INTO @store@.uploads (upload_id, expected_bytes, parent_model_id, parent_checkpoint_id, chunk_bytes)
         VALUES ($1, $2, $3, $4, $5)",
        &[uuid(id), expected.into(), model, checkpoint, (chunk_bytes as i32).into()],
    )?;
    Ok(id)
}

/// Adds bytes that wait, in rows that a statement can hold.
pub fn insert_waiting(store: &Store, upload: Uuid, offset: u64, data: &[u8]) -> Result<()> {
    let mut offset = offset;
    for part in data.chunks(MAX_WAITING_ROW) {
        let inserted = store.execute(
            "INSERT INTO @store@.upload_parts (upload_id, part_offset, data) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[uuid(upload), (offset as i64).into(), bytes(part)],
        )?;
        if inserted == 0 {
            return Err(suppressed(
                store,
                "upload_parts",
                &format!("part at offset {offset} of upload {upload}"),
            ));
        }
        offset += part.len() as u64;
    }
    Ok(())
}
