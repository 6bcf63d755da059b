//! What is looked at, what is counted, what is found.

use crate::error::{Result, info};
use crate::formats::safetensors::consistency::File;
use crate::io::file_hashes::FileHashes;
use crate::maintenance::verify::zone;
use crate::pg::arguments::{from_sql_uuid, to_sql_uuid};
use crate::pg::query::Row;
use crate::store::Store;
use crate::tensor_storage::locate::{self, StoredTensor, read_tensor};
use crate::tensor_storage::stream::{ChunkStream, Wanted};
use modelstore_chunk::{ChunkHash, ContentHasher};
use modelstore_tensor::stats::Stats;
use pgrx::datum::{DatumWithOid, Uuid as SqlUuid};
use std::rc::Rc;
use uuid::Uuid;

/// One row a problem; none when all is well.
pub type Problem = (String, Option<SqlUuid>, Option<Vec<u8>>, String);

/// What was looked at, and what was found.
pub struct Verifier<'a> {
    store: &'a Store,
    pub problems: Vec<Problem>,
    tensors: u64,
    chunks: u64,
    bytes: u64,
}

impl<'a> Verifier<'a> {
    pub fn new(store: &'a Store) -> Verifier<'a> {
        Verifier {
            store,
            problems: Vec::new(),
            tensors: 0,
            chunks: 0,
            bytes: 0,
        }
    }

    pub fn report(
        &mut self,
        object: &str,
        tensor: Option<Uuid>,
        chunk: Option<&ChunkHash>,
        problem: String,
    ) {
        self.problems.push((
            object.to_owned(),
            tensor.map(to_sql_uuid),
            chunk.map(|c| c.0.to_vec()),
            problem,
        ));
    }

    /// The tensors of a query on [`tensor_columns`]; rows that make no tensor are problems.
    pub fn readable(
        &mut self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        label: impl Fn(&Row<'_>) -> Result<Option<String>>,
    ) -> Result<Vec<StoredTensor>> {
        let rows = self.store.rows(template, arguments, |row| {
            let id = from_sql_uuid(row.get::<SqlUuid>(1)?);
            let label = label(row)?;
            Ok((id, label.clone(), read_tensor(row, label)))
        })?;
        let mut tensors = Vec::with_capacity(rows.len());
        for (id, label, tensor) in rows {
            match tensor {
                Ok(tensor) => tensors.push(tensor),
                Err(failure) => {
                    let label = label.unwrap_or_else(|| id.to_string());
                    self.report(&label, Some(id), None, failure.message().to_owned());
                }
            }
        }
        Ok(tensors)
    }

    /// Checks a file: its chunks and, over all of it, its hashes, which cover the tensors as well. Only when these do not
    /// match is each tensor looked at by itself, to name the one.
    pub fn file(&mut self, file: &File, tensors: &[StoredTensor]) -> Result<()> {
        let before = self.problems.len();
        let ids: Vec<Uuid> = tensors.iter().map(|t| t.id).collect();
        let labels: Vec<Rc<str>> = tensors.iter().map(|t| t.label.as_str().into()).collect();
        let pieces = zone::pieces(self.store, &ids)?;
        let wanted = pieces
            .iter()
            .map(|piece| Wanted {
                hash: piece.hash,
                label: Rc::clone(&labels[piece.tensor]),
                figures_of: Some(tensors[piece.tensor].dtype),
            })
            .collect();
        let mut hashes = FileHashes::new();
        hashes.update(&file.header);
        let mut bytes = file.header.len() as u64;
        let mut wrong = Vec::new();
        self.chunks(
            &|chunk| pieces.get(chunk).map(|piece| ids[piece.tensor]),
            wanted,
            &mut |chunk, raw, figures| {
                hashes.update(raw);
                bytes += raw.len() as u64;
                if let Some(piece) = pieces.get(chunk) {
                    let problem = piece.wrong_figures(figures);
                    wrong.extend(problem.map(|problem| (piece, problem)));
                }
            },
        )?;
        self.tensors += tensors.len() as u64;
        for (place, tensor) in tensors.iter().enumerate() {
            let problem = match tensor.clone().check() {
                Ok(_) => zone::wrong_order(tensor, pieces.iter().filter(|p| p.tensor == place)),
                Err(failure) => Some(failure.message().to_owned()),
            };
            if let Some(problem) = problem {
                self.report(&tensor.label, Some(tensor.id), None, problem);
            }
        }
        let (sha256, blake3) = hashes.finish();
        if self.problems.len() == before && (bytes != file.bytes || blake3[..] != file.blake3[..]) {
            let (counted, problem) = (
                (self.tensors, self.chunks, self.bytes),
                if bytes == file.bytes {
                    "file does not match its BLAKE3 hash".to_owned()
                } else {
                    format!("file has {bytes} bytes, not {}", file.bytes)
                },
            );
            self.report(&file.name, None, None, problem);
            for tensor in tensors {
                self.tensor(tensor)?;
            }
            (self.tensors, self.chunks, self.bytes) = counted;
            return Ok(());
        }
        if self.problems.len() == before && sha256[..] != file.sha256[..] {
            let problem = "file does not match its SHA-256 hash".to_owned();
            self.report(&file.name, None, None, problem);
        }
        for (piece, problem) in wrong {
            let tensor = &tensors[piece.tensor];
            self.report(&tensor.label, Some(tensor.id), Some(&piece.hash), problem);
        }
        Ok(())
    }

    /// Checks a tensor: its chunks with their zone maps, its size and its hash.
    pub fn tensor(&mut self, tensor: &StoredTensor) -> Result<()> {
        self.tensors += 1;
        let pieces = tensor
            .clone()
            .check()
            .and_then(|t| locate::all_pieces(self.store, &t))
            .and_then(|_| zone::pieces(self.store, &[tensor.id]));
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(failure) => {
                self.report(
                    &tensor.label,
                    Some(tensor.id),
                    None,
                    failure.message().to_owned(),
                );
                return Ok(());
            }
        };
        if let Some(problem) = zone::wrong_order(tensor, pieces.iter()) {
            self.report(&tensor.label, Some(tensor.id), None, problem);
            return Ok(());
        }
        let mut hasher = ContentHasher::new();
        let (mut bytes, before) = (0, self.problems.len());
        let single = pieces.len() == 1;
        let first = pieces.first().map(|p| p.hash);
        let wanted = pieces
            .iter()
            .map(|p| Wanted {
                hash: p.hash,
                label: tensor.label.as_str().into(),
                figures_of: Some(tensor.dtype),
            })
            .collect();
        let mut wrong = Vec::new();
        self.chunks(&|_| Some(tensor.id), wanted, &mut |chunk, raw, figures| {
            // The hash of a tensor of one chunk is the chunk's, which is checked already.
            if !single {
                hasher.update(raw);
            }
            bytes += raw.len() as u64;
            if let Some(piece) = pieces.get(chunk) {
                let problem = piece.wrong_figures(figures);
                wrong.extend(problem.map(|problem| (piece.hash, problem)));
            }
        })?;
        if self.problems.len() == before {
            let content_hash = if single { first } else { Some(hasher.finish()) };
            let problem = if bytes != tensor.raw_bytes {
                Some(format!(
                    "tensor has {bytes} bytes, not {}",
                    tensor.raw_bytes
                ))
            } else if content_hash != Some(tensor.content_hash) {
                Some("tensor does not match its BLAKE3 hash".to_owned())
            } else {
                None
            };
            if let Some(problem) = problem {
                self.report(&tensor.label, Some(tensor.id), None, problem);
            }
        }
        for (hash, problem) in wrong {
            self.report(&tensor.label, Some(tensor.id), Some(&hash), problem);
        }
        Ok(())
    }

    /// Decodes chunks in order. `tensor_of` says which tensor a chunk, by its place, is read for; `each` gets its place, its raw
    /// bytes and their figures.
    pub fn chunks(
        &mut self,
        tensor_of: &dyn Fn(usize) -> Option<Uuid>,
        wanted: Vec<Wanted>,
        each: &mut dyn FnMut(usize, &[u8], Option<&Stats>),
    ) -> Result<()> {
        let mut stream = ChunkStream::new(self.store, wanted)?;
        let mut place = 0;
        while let Some(chunk) = stream.next_outcome()? {
            self.chunks += 1;
            match chunk.raw {
                Ok((raw, figures)) => {
                    self.bytes += raw.len() as u64;
                    each(place, &raw, figures.as_ref());
                    stream.recycle(raw);
                }
                Err(failure) => {
                    let problem = failure.message().to_owned();
                    self.report(&chunk.label, tensor_of(place), Some(&chunk.hash), problem);
                }
            }
            place += 1;
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<Problem> {
        info(&format!(
            "verified {} tensors, {} chunks, {} bytes: {} problems",
            self.tensors,
            self.chunks,
            self.bytes,
            self.problems.len()
        ));
        self.problems
    }
}
