//! Exports a file of a model or a checkpoint, byte for byte.

use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::files::Format;
use crate::io::parts::Parts;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{text, uuid};
use crate::store::Store;
use crate::tensor_storage::locate::{self, read_tensor, tensor_columns};
use crate::tensor_storage::stream::ChunkStream;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::read::Wanted;
use modelstore_chunk::verify::manifest_hash;
use std::rc::Rc;
use uuid::Uuid;

/// The parts of a file in order: the header, then one chunk at a time. The header and the list of chunks are checked
/// against the file's manifest hash before the first part, each chunk against its own hash when it is decoded. Together
/// these prove as much as a hash of the whole file, without reading it twice.
pub struct Export {
    header: Option<Vec<u8>>,
    stream: ChunkStream,
    name: String,
    /// Bytes of the first chunk that are not wanted.
    cut: u64,
    /// Bytes of the chunks that are still to come.
    left: u64,
}

/// The record of a file.
struct File {
    name: String,
    format: String,
    header: Vec<u8>,
    bytes: u64,
    manifest_hash: Vec<u8>,
}

impl Export {
    /// Starts to export a file; without a name, the only one.
    pub fn begin(store: &Store, from: StateDict, file_name: Option<&str>) -> Result<Export> {
        Export::resume(store, from, file_name, 0)
    }

    /// Starts to export a file from one of its bytes on. Header and list of chunks are checked as for the whole file; of
    /// the chunks before that byte, none is read.
    pub fn resume(
        store: &Store,
        from: StateDict,
        file_name: Option<&str>,
        from_byte: i64,
    ) -> Result<Export> {
        let from_byte = u64::try_from(from_byte).map_err(|_| {
            Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("from_byte {from_byte} is negative"),
            )
        })?;
        let file = file(store, from, file_name)?;
        let is_whole = file.format == Format::File.name();
        let sql = match is_whole {
            false => concat!(
                "SELECT ",
                tensor_columns!(),
                ", w.weight_name, w.file_offset FROM @entries@ w JOIN @store@.tensor_metadata t USING (tensor_id)
                  WHERE w.@owner@ = $1 AND w.file_name = $2 ORDER BY w.file_offset, t.raw_bytes, w.weight_name"
            ),
            true => concat!(
                "SELECT ",
                tensor_columns!(),
                ", f.file_name, 0::bigint FROM @files@ f JOIN @store@.tensor_metadata t USING (tensor_id)
                  WHERE f.@owner@ = $1 AND f.file_name = $2"
            ),
        };
        let weights = store.rows(
            &from.sql(sql),
            &[uuid(from.id()), text(&file.name)],
            |row| {
                let (name, offset) = (row.get(6)?, row.get::<i64>(7)?);
                Ok((read_tensor(row, Some(name))?.check()?, offset as u64))
            },
        )?;
        let data_bytes = file.bytes.saturating_sub(file.header.len() as u64);
        check_layout(&file.name, &weights, data_bytes).map_err(|e| e.hint(from.verify_hint()))?;
        let labels: Vec<Rc<str>> = weights
            .iter()
            .map(|(t, _)| t.label.as_str().into())
            .collect();
        let ids: Vec<Uuid> = weights.iter().map(|(t, _)| t.id).collect();
        let chunks = locate::chunks_of(store, &ids)?;
        if manifest_hash(&file.header, chunks.iter().map(|(_, hash)| hash)).as_bytes()[..]
            != file.manifest_hash[..]
        {
            return Err(damaged(format!(
                "header or chunks of file \"{}\" do not match its manifest hash",
                file.name
            ))
            .hint(from.verify_hint()));
        }
        let header_bytes = file.header.len() as u64;
        let in_data = from_byte.saturating_sub(header_bytes);
        let start = Start::find(store, &weights, in_data)?;
        let mut of_first = 0;
        let wanted = chunks.into_iter().filter_map(|(place, hash)| {
            of_first += usize::from(place == start.tensor);
            let is_before =
                place < start.tensor || (place == start.tensor && of_first <= start.skipped_pieces);
            (!is_before).then(|| Wanted {
                hash,
                of: Rc::clone(&labels[place]),
                figures_of: None,
            })
        });
        let stream = ChunkStream::new(store, wanted)?;
        // An empty file has one part as well: clients join the parts.
        let has_header =
            (!is_whole && from_byte < header_bytes) || (file.bytes == 0 && from_byte == 0);
        let mut header = has_header.then_some(file.header);
        if let Some(header) = &mut header {
            header.drain(..from_byte as usize);
        }
        Ok(Export {
            header,
            stream,
            name: file.name,
            cut: in_data.min(data_bytes) - start.at,
            left: data_bytes - start.at,
        })
    }
}

/// Where an export begins in the data of a file.
struct Start {
    /// Index of the tensor.
    tensor: usize,
    /// Its pieces that are not wanted.
    skipped_pieces: usize,
    /// Byte at which the first piece that is wanted begins.
    at: u64,
}

impl Start {
    /// Finds the piece with a byte. The recorded sizes of the pieces before it are not compared with their chunks, but the
    /// export counts its bytes: a wrong one is an error at the end.
    fn find(store: &Store, weights: &[(StoredTensor, u64)], byte: u64) -> Result<Start> {
        let mut start = Start {
            tensor: weights.partition_point(|(t, offset)| offset + t.raw_bytes <= byte),
            skipped_pieces: 0,
            at: 0,
        };
        let Some((tensor, offset)) = weights.get(start.tensor) else {
            start.at = weights.last().map_or(0, |(t, offset)| offset + t.raw_bytes);
            return Ok(start);
        };
        start.at = *offset;
        if byte == *offset {
            return Ok(start);
        }
        for piece in locate::all_pieces(store, tensor)? {
            let end = offset + tensor.end_of(&piece)?;
            if end > byte {
                break;
            }
            start.skipped_pieces += 1;
            start.at = end;
        }
        Ok(start)
    }
}

impl Export {
    fn wrong_sizes(&self) -> Failure {
        damaged(format!(
            "chunks of file \"{}\" do not have the recorded sizes",
            self.name
        ))
    }
}

impl Parts for Export {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(header) = self.header.take() {
            return Ok(Some(header));
        }
        let part = self.stream.next()?;
        let bytes = part.as_ref().map_or(0, |part| part.len() as u64);
        // At the end nothing is left, before it less than there was.
        self.left = match self.left.checked_sub(bytes) {
            Some(left) if part.is_some() || left == 0 => left,
            _ => {
                return Err(self.wrong_sizes());
            }
        };
        let cut = std::mem::take(&mut self.cut);
        if part.is_some() && cut > bytes {
            return Err(self.wrong_sizes());
        }
        Ok(part.map(|mut part| {
            part.drain(..cut as usize);
            part
        }))
    }

    fn recycle(&mut self, part: Vec<u8>) {
        self.stream.recycle(part);
    }
}

fn damaged(message: String) -> Failure {
    Failure::new(Code::ERRCODE_DATA_CORRUPTED, message)
}

/// Tensors must be contiguous, as the format requires.
fn check_layout(file_name: &str, weights: &[(StoredTensor, u64)], data_bytes: u64) -> Result<()> {
    let mut at = 0;
    for (tensor, offset) in weights {
        if *offset != at {
            return Err(damaged(format!(
                "weight \"{}\" of file \"{file_name}\" is recorded at offset {offset}, not {at}",
                tensor.label
            )));
        }
        at += tensor.raw_bytes;
    }
    if at == data_bytes {
        return Ok(());
    }
    Err(damaged(format!(
        "weights of file \"{file_name}\" have {at} bytes, not {data_bytes}"
    )))
}

fn file(store: &Store, from: StateDict, name: Option<&str>) -> Result<File> {
    let mut files = store.rows(
        &from.sql(
            "SELECT file_name, header, file_bytes, manifest_hash, format FROM @files@
             WHERE @owner@ = $1 AND CASE WHEN $2 IS NULL THEN format = 'safetensors' ELSE file_name = $2 END",
        ),
        &[uuid(from.id()), crate::pg::arguments::maybe_text(name)],
        |row| {
            Ok(File {
                name: row.get(1)?,
                header: row.get(2)?,
                bytes: row.get::<i64>(3)? as u64,
                manifest_hash: row.get(4)?,
                format: row.get(5)?,
            })
        },
    )?;
    let which = store.sql(&from.sql(&format!(
        "SELECT file_name FROM @files@ WHERE @owner@ = '{}';",
        from.id()
    )));
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(file),
        (Some(_), others) => Err(Failure::new(
            Code::ERRCODE_AMBIGUOUS_PARAMETER,
            format!("{from} has {} files", others + 1),
        )
        .detail("Name the one to export.")
        .hint(which)),
        (None, _) => {
            from.require(store)?;
            let what = name.map_or_else(
                || "no safetensors file".to_owned(),
                |name| format!("no file \"{name}\""),
            );
            Err(
                Failure::new(Code::ERRCODE_UNDEFINED_OBJECT, format!("{from} has {what}"))
                    .hint(which),
            )
        }
    }
}
