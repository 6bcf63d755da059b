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
        let wanted = chunks.into_iter().map(|(place, hash)| Wanted {
            hash,
            of: Rc::clone(&labels[place]),
            figures_of: None,
        });
        // An empty file has one part as well: clients join the parts.
        let has_header = !is_whole || file.bytes == 0;
        Ok(Export {
            header: has_header.then_some(file.header),
            stream: ChunkStream::new(store, wanted)?,
        })
    }
}

impl Parts for Export {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self.header.take() {
            Some(header) => Ok(Some(header)),
            None => self.stream.next(),
        }
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
