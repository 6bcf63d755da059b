//! Bytes are added to an upload.

use crate::chunks::spi_chunks::SpiChunks;
use crate::error::{Code, Failure, Result};
use crate::pg::arguments::uuid;
use crate::pg::background::Backend;
use crate::store::Store;
use crate::upload::parsed::Parsed;
use crate::upload::pieces;
use crate::upload::row::{UploadRow, broken, insert_waiting};
use modelstore_chunk::MAX_CHUNK_BYTES;
use modelstore_chunk::write::streaming::{StreamHashes, StreamWriter};
use modelstore_formats::safetensors::{LENGTH_BYTES, MAX_HEADER_BYTES, header_len};
use std::sync::Arc;
use uuid::Uuid;

/// Bytes that tell whether a file is a safetensors file: the length of its header and the brace that opens it.
pub const IDENTIFYING_BYTES: u64 = LENGTH_BYTES + 1;

/// Bytes that are collected without looking at what waits: more than any chunk has, whatever the row says.
const MAX_COLLECTED: usize = 8 << 20;

/// An upload that takes in bytes. Nothing of it counts until `finish`.
pub struct Appending {
    store: Store,
    row: UploadRow,
    /// Bytes that wait in rows.
    waiting: u64,
    /// Bytes of the header, once pieces are being stored.
    head_bytes: u64,
    body: Body,
}

enum Body {
    /// Bytes received now, too few for the next step.
    Collecting(Vec<u8>),
    /// All bytes of a header that is not complete, those that wait in rows first.
    Header(Vec<u8>),
    /// Pieces are being stored, from this byte of the file.
    Streaming(Box<StreamWriter>, u64),
    /// A file of another format: its bytes wait as they are.
    Other,
}

impl Appending {
    /// Takes the upload for this transaction.
    pub fn open(store: &Store, upload: Uuid) -> Result<Appending> {
        let row = UploadRow::lock(store, upload)?;
        let body = match row.wanted {
            Some(_) => Body::Collecting(Vec::new()),
            None => Body::Other,
        };
        Ok(Appending {
            store: store.clone(),
            row,
            waiting: 0,
            head_bytes: 0,
            body,
        })
    }

    /// Which upload.
    pub fn upload(&self) -> Uuid {
        self.row.id
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.row.received
    }

    /// An error unless the next byte belongs at this offset.
    pub fn check_offset(&self, at: i64) -> Result<()> {
        if u64::try_from(at) == Ok(self.row.received) {
            return Ok(());
        }
        let upload = self.row.id;
        Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("part at offset {at} does not continue upload {upload}"),
        )
        .detail(format!(
            "The upload has received {} bytes.",
            self.row.received
        ))
        .hint(format!("SELECT modelstore.upload_offset('{upload}');")))
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, data: &[u8]) -> Result<()> {
        let offset = self.row.received;
        self.row.received += data.len() as u64;
        self.row.check_size(self.row.received)?;
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.body {
            Body::Collecting(bytes) => {
                bytes.extend_from_slice(data);
                let wanted = self
                    .row
                    .wanted
                    .is_some_and(|wanted| self.row.received >= wanted);
                if wanted || bytes.len() > MAX_COLLECTED {
                    let bytes = std::mem::take(bytes);
                    self.step(bytes)?;
                }
            }
            Body::Header(bytes) => {
                bytes.extend_from_slice(data);
                if self
                    .row
                    .wanted
                    .is_some_and(|wanted| self.row.received >= wanted)
                {
                    let bytes = std::mem::take(bytes);
                    self.header(bytes)?;
                }
            }
            Body::Streaming(writer, _) => {
                writer.feed(&mut SpiChunks::new(&self.store), &Backend::silent(), data)?;
            }
            Body::Other => insert_waiting(&self.store, self.row.id, offset, data)?,
        }
        Ok(())
    }

    /// The next step is possible: what waits in rows is read, and `received` follows it.
    fn step(&mut self, received: Vec<u8>) -> Result<()> {
        let mut waiting = Vec::new();
        let mut next = None;
        // More does not wait for a header or for a chunk.
        let limit = match self.row.file_bytes {
            None => LENGTH_BYTES + MAX_HEADER_BYTES,
            Some(_) => MAX_CHUNK_BYTES,
        };
        self.store.query(
            "SELECT part_offset, data FROM @store@.upload_parts WHERE upload_id = $1 AND data IS NOT NULL ORDER BY part_offset",
            &[uuid(self.row.id)],
            |row| {
                let start = row.get::<i64>(1)? as u64;
                if next.is_some_and(|next| start != next) {
                    return Err(broken(self.row.id));
                }
                if waiting.len() as u64 > limit {
                    return Err(broken(self.row.id));
                }
                let before = waiting.len() as u64;
                row.append_bytes(2, &mut waiting)?;
                next = Some(start + waiting.len() as u64 - before);
                Ok(())
            },
        )?;
        self.waiting = waiting.len() as u64;
        let known = self.row.received - received.len() as u64;
        if next.is_some_and(|next| next != known) {
            return Err(broken(self.row.id));
        }
        self.row.read_head(&self.store)?;
        match self.row.head.take() {
            None => {
                if self.waiting != known {
                    return Err(broken(self.row.id));
                }
                waiting.extend_from_slice(&received);
                self.header(waiting)
            }
            Some(head) => {
                let state = self
                    .row
                    .hash_state
                    .as_deref()
                    .and_then(StreamHashes::restore);
                let hashes = state.ok_or_else(|| broken(self.row.id))?;
                let from = hashes.bytes();
                if from + self.waiting != known {
                    return Err(broken(self.row.id));
                }
                let parsed = Parsed::of(&self.store, &self.row, head)?;
                self.stream(&parsed, hashes, from)?;
                self.feed_writer(&waiting)?;
                self.feed_writer(&received)
            }
        }
    }

    /// With all bytes since the first one.
    fn header(&mut self, bytes: Vec<u8>) -> Result<()> {
        if (bytes.len() as u64) < IDENTIFYING_BYTES {
            self.body = Body::Header(bytes);
            return Ok(());
        }
        let length = header_len(&bytes[..LENGTH_BYTES as usize], u64::MAX).ok();
        let is_object = |byte: u8| byte == b'{' || byte.is_ascii_whitespace();
        let Some(length) = length.filter(|_| is_object(bytes[LENGTH_BYTES as usize])) else {
            self.row.wanted = None;
            self.body = Body::Other;
            let new = bytes.get(self.waiting as usize..).unwrap_or_default();
            return insert_waiting(&self.store, self.row.id, self.waiting, new);
        };
        let end = LENGTH_BYTES + length;
        self.row.wanted = Some(end.max(IDENTIFYING_BYTES));
        let Some((head, data)) = bytes.split_at_checked(end as usize) else {
            self.body = Body::Header(bytes);
            return Ok(());
        };
        let hashes = StreamHashes::after(head);
        let parsed = Parsed::of(&self.store, &self.row, head.to_vec())?;
        self.row.file_bytes = Some(parsed.header.file_bytes());
        self.row.check_size(self.row.received)?;
        self.row.head = Some(parsed.head.clone());
        self.stream(&parsed, hashes, end)?;
        self.feed_writer(data)
    }

    fn stream(&mut self, parsed: &Parsed, hashes: StreamHashes, from: u64) -> Result<()> {
        let at = from
            .checked_sub(parsed.header.data_offset)
            .ok_or_else(|| broken(self.row.id))?;
        self.head_bytes = parsed.head.len() as u64;
        let layout = Arc::clone(&parsed.layout);
        let writer = StreamWriter::new(&Backend::silent(), layout, at, hashes)?;
        self.body = Body::Streaming(Box::new(writer), from);
        Ok(())
    }

    fn feed_writer(&mut self, data: &[u8]) -> Result<()> {
        match &mut self.body {
            Body::Streaming(writer, _) => {
                writer.feed(&mut SpiChunks::new(&self.store), &Backend::silent(), data)
            }
            _ => Ok(()),
        }
    }

    /// Stores what is complete, keeps the rest, and returns the bytes received.
    pub fn finish(mut self) -> Result<u64> {
        let (store, id) = (self.store.clone(), self.row.id);
        match self.body {
            Body::Other => {}
            Body::Collecting(new) => {
                if !new.is_empty() {
                    insert_waiting(&store, id, self.row.received - new.len() as u64, &new)?;
                }
            }
            Body::Header(bytes) => {
                let new = bytes.get(self.waiting as usize..).unwrap_or_default();
                if !new.is_empty() {
                    insert_waiting(&store, id, self.waiting, new)?;
                }
            }
            Body::Streaming(writer, from) => {
                let outcome = writer.finish(&mut SpiChunks::new(&store), &Backend::silent())?;
                if self.waiting > 0 {
                    store.execute(
                        "DELETE FROM @store@.upload_parts WHERE upload_id = $1 AND data IS NOT NULL",
                        &[uuid(id)],
                    )?;
                }
                pieces::insert(&store, id, from, &outcome.pieces)?;
                let stored = outcome.hashes.bytes();
                if !outcome.rest.is_empty() {
                    insert_waiting(&store, id, stored, &outcome.rest)?;
                }
                self.row.wanted = Some(match outcome.next_end {
                    Some(end) => self.head_bytes + end,
                    // Nothing more may come.
                    None => stored + 1,
                });
                self.row.hash_state = Some(outcome.hashes.save());
                self.row.new += outcome.inserted;
            }
        }
        self.row.save(&store)?;
        Ok(self.row.received)
    }
}
