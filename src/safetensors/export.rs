//! A model's file, given back byte for byte.

use crate::error::{Code, Failure, Result};
use crate::registry::models;
use crate::store::Store;
use crate::store::arguments::{text, uuid};
use crate::tensor_storage::locate::{self, StoredTensor, read_tensor, tensor_columns};
use crate::tensor_storage::stream::ChunkStream;
use crate::tensor_storage::verify::corrupted;
use modelstore_chunk::ChunkHash;
use std::rc::Rc;
use uuid::Uuid;

/// The parts of a file in order: the header, then a chunk at a time. Each chunk is checked against its hash as it is
/// decoded, and the whole against the file's BLAKE3 hash at the end.
pub struct Export {
    header: Option<Vec<u8>>,
    stream: ChunkStream,
    hasher: blake3::Hasher,
    file_name: String,
    expected_hash: Vec<u8>,
    finished: bool,
}

/// A row of `model_files`.
struct File {
    name: String,
    header: Vec<u8>,
    bytes: u64,
    blake3: Vec<u8>,
}

impl Export {
    /// Begins to export a file of a model; without a name, the only one it has.
    pub fn begin(store: &Store, model: Uuid, file_name: Option<&str>) -> Result<Export> {
        let file = file(store, model, file_name)?;
        let weights = store.rows(
            concat!(
                "SELECT ",
                tensor_columns!(),
                ", w.weight_name, w.file_offset FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
                  WHERE w.model_id = $1 AND w.file_name = $2 ORDER BY w.file_offset, t.raw_bytes, w.weight_name"
            ),
            &[uuid(model), text(&file.name)],
            |row| {
                let (name, offset) = (row.get(6)?, row.get::<i64>(7)?);
                Ok((read_tensor(row, Some(name))?, offset as u64))
            },
        )?;
        let data_bytes = file.bytes.saturating_sub(file.header.len() as u64);
        check_layout(&file.name, &weights, data_bytes)?;
        let mut wanted: Vec<(ChunkHash, Rc<str>)> = Vec::new();
        for (tensor, _) in &weights {
            let label: Rc<str> = tensor.label.as_str().into();
            let pieces = locate::all_pieces(store, tensor)?;
            wanted.extend(pieces.into_iter().map(|p| (p.hash, Rc::clone(&label))));
        }
        Ok(Export {
            header: Some(file.header),
            stream: ChunkStream::new(store, wanted)?,
            hasher: blake3::Hasher::new(),
            file_name: file.name,
            expected_hash: file.blake3,
            finished: false,
        })
    }

    /// The next part, or `None` at the end of a file that is as it was.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let part = match self.header.take() {
            Some(header) => Some(header),
            None => self.stream.next()?,
        };
        match part {
            Some(part) => {
                self.hasher.update(&part);
                Ok(Some(part))
            }
            None if !self.finished
                && self.hasher.finalize().as_bytes()[..] != self.expected_hash[..] =>
            {
                Err(corrupted(format!(
                    "exported file \"{}\" does not match its BLAKE3 hash",
                    self.file_name
                )))
            }
            None => {
                self.finished = true;
                Ok(None)
            }
        }
    }

    /// Gives a part's memory back for the next one.
    pub fn recycle(&mut self, part: Vec<u8>) {
        self.stream.recycle(part);
    }
}

/// Tensors must follow each other without a hole, as the format has it.
fn check_layout(file_name: &str, weights: &[(StoredTensor, u64)], data_bytes: u64) -> Result<()> {
    let mut at = 0;
    for (tensor, offset) in weights {
        if *offset != at {
            return Err(corrupted(format!(
                "weight \"{}\" of file \"{file_name}\" is recorded at offset {offset}, not {at}",
                tensor.label
            )));
        }
        at += tensor.raw_bytes;
    }
    if at == data_bytes {
        return Ok(());
    }
    Err(corrupted(format!(
        "weights of file \"{file_name}\" have {at} bytes, not {data_bytes}"
    )))
}

fn file(store: &Store, model: Uuid, name: Option<&str>) -> Result<File> {
    let mut files = store.rows(
        "SELECT file_name, header, file_bytes, blake3 FROM @store@.model_files
         WHERE model_id = $1 AND CASE WHEN $2 IS NULL THEN format = 'safetensors' ELSE file_name = $2 END",
        &[uuid(model), crate::store::arguments::maybe_text(name)],
        |row| {
            Ok(File { name: row.get(1)?, header: row.get(2)?, bytes: row.get::<i64>(3)? as u64, blake3: row.get(4)? })
        },
    )?;
    let which = store.sql(&format!(
        "SELECT file_name FROM @store@.model_files WHERE model_id = '{model}';"
    ));
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(file),
        (Some(_), others) => Err(Failure::new(
            Code::ERRCODE_AMBIGUOUS_PARAMETER,
            format!("model {model} has {} files", others + 1),
        )
        .detail("Name the one to export.")
        .hint(which)),
        (None, _) => {
            models::require(store, model)?;
            let what = name.map_or_else(
                || "no safetensors file".to_owned(),
                |name| format!("no file \"{name}\""),
            );
            Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("model {model} has {what}"),
            )
            .hint(which))
        }
    }
}
