//! Imports a safetensors file as weights of a model.

use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::files::{self, Format, NewFile};
use crate::io::Source;
use crate::io::tensors::TensorsSource;
use crate::model::architecture::{self, Weight};
use crate::model::models::{self, NewModel};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{maybe_uuid, text, uuid};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use crate::tensor_storage::write::{record, write};
use modelstore_chunk::write::{FileHashes, InFile, Incoming, Scanned, WrittenTensor};
use modelstore_formats::file_name::folder_of;
use modelstore_formats::other_format::{IDENTIFYING_BYTES, other_format};
use modelstore_formats::safetensors::{
    Header, LENGTH_BYTES, TensorEntry, header_len, parse_header,
};
use modelstore_tensor::{DType, Shape};
use pgrx::datum::Uuid as SqlUuid;
use serde_json::json;
use std::borrow::{Borrow, Cow};
use std::collections::HashMap;
use uuid::Uuid;

/// Rows of a statement.
const BATCH_ROWS: usize = 4096;

/// The result of an import.
#[derive(Default)]
pub struct Imported {
    /// The model that has the weights.
    pub model: Uuid,
    /// Number of weights of this file.
    pub weights: u64,
    /// Number of their elements, tied weights once.
    pub parameters: u64,
    /// Number of their bytes.
    pub raw_bytes: u64,
    /// Number of chunks that are new in the store.
    pub new_chunks: u64,
    /// Encoded bytes of the new chunks.
    pub new_bytes: u64,
    /// Raw bytes that the store already had.
    pub reused_bytes: u64,
}

/// Creates a model from one file.
pub fn import(
    store: &Store,
    model: &NewModel<'_>,
    file_name: &str,
    source: &mut dyn Source,
) -> Result<Imported> {
    // The header is read first: a file that is no safetensors leaves no trace at all.
    import_file(store, model, FileIn::open(file_name, source)?)
}

/// The same of a file of which the header has been read.
pub fn import_file(store: &Store, model: &NewModel<'_>, file: FileIn<'_>) -> Result<Imported> {
    let id = models::insert(store, model)?;
    let (mut imported, weights) = import_files(store, id, vec![file])?;
    imported.parameters = architecture::describe_weights(store, id, weights)?;
    Ok(imported)
}

/// The header of a file, parsed and unchanged; or what the file is instead.
type Head = std::result::Result<(Header, Vec<u8>), modelstore_formats::Error>;

fn read_head(source: &mut dyn Source) -> Result<Head> {
    let file_len = source.len();
    let mut prefix = Vec::new();
    source.read_at(0, file_len.min(IDENTIFYING_BYTES) as usize, &mut prefix)?;
    // A header error does not help someone whose file has another format.
    let other = |e: modelstore_formats::Error| other_format(&prefix, file_len).unwrap_or(e);
    let length = &prefix[..prefix.len().min(LENGTH_BYTES as usize)];
    let json_len = match header_len(length, file_len) {
        Ok(json_len) => json_len,
        Err(e) => return Ok(Err(other(e))),
    };
    let mut head = Vec::new();
    source.read_at(0, (LENGTH_BYTES + json_len) as usize, &mut head)?;
    let header = parse_header(&head[LENGTH_BYTES as usize..], file_len);
    Ok(header.map(|header| (header, head)).map_err(other))
}

/// A file that is to be stored: a safetensors file whose header has been read, or any other.
pub struct FileIn<'a> {
    /// The name it is recorded under.
    pub name: &'a str,
    /// How it is kept.
    pub format: Format,
    /// The parsed header.
    pub header: Header,
    /// Length and JSON, unchanged.
    head: Vec<u8>,
    body: Body<'a>,
}

/// The tensors of a file.
enum Body<'a> {
    /// Bytes to be read.
    Source(&'a mut dyn Source),
    /// Chunks that are stored.
    Stored(Box<StoredBody>),
}

/// A file whose chunks are in the store, kept from the collector by something that refers to them.
pub struct StoredBody {
    /// What its header says.
    pub header: Header,
    /// Length and JSON, as they are.
    pub head: Vec<u8>,
    /// The pieces of each tensor of the header.
    pub tensors: Vec<Scanned>,
    /// Of the whole file.
    pub hashes: FileHashes,
    /// Chunks that the store did not have, what they take, and the raw bytes that it had.
    pub counts: (u64, u64, u64),
}

impl<'a> FileIn<'a> {
    /// Reads the header.
    pub fn open(name: &'a str, source: &'a mut dyn Source) -> Result<FileIn<'a>> {
        let (header, head) = read_head(source)??;
        Ok(FileIn {
            name,
            format: Format::Safetensors,
            header,
            head,
            body: Body::Source(source),
        })
    }

    /// Reads the header, if there is one: a file with another name than `*.safetensors` may be of any format.
    pub fn open_any(name: &'a str, source: &'a mut dyn Source) -> Result<FileIn<'a>> {
        let (format, header, head) = match read_head(source)? {
            Ok((header, head)) => (Format::Safetensors, header, head),
            Err(e) if has_safetensors_name(name) => return Err(e.into()),
            Err(_) => (Format::File, whole(name, source.len())?, Vec::new()),
        };
        Ok(FileIn {
            name,
            format,
            header,
            head,
            body: Body::Source(source),
        })
    }

    /// Any bytes, as they are.
    pub fn whole(name: &'a str, source: &'a mut dyn Source) -> Result<FileIn<'a>> {
        Ok(FileIn {
            name,
            format: Format::File,
            header: whole(name, source.len())?,
            head: Vec::new(),
            body: Body::Source(source),
        })
    }

    /// Makes a file that is to be kept as it is of one whose bytes are at hand.
    pub fn keep_whole(&mut self) -> Result<()> {
        if let Body::Source(source) = &self.body {
            self.header = whole(self.name, source.len())?;
            self.format = Format::File;
            self.head.clear();
        }
        Ok(())
    }

    /// Of chunks that are stored.
    pub fn stored(name: &'a str, body: StoredBody) -> FileIn<'a> {
        FileIn {
            name,
            format: Format::Safetensors,
            header: body.header.clone(),
            head: body.head.clone(),
            body: Body::Stored(Box::new(body)),
        }
    }

    /// Of tensors that are at hand, whose header was made for them.
    pub fn of_tensors(name: &'a str, source: &'a mut TensorsSource<'_>) -> FileIn<'a> {
        FileIn {
            name,
            format: Format::Safetensors,
            header: source.header.clone(),
            head: source.head.clone(),
            body: Body::Source(source),
        }
    }
}

/// Returns whether a file promises by its name to be a safetensors file.
fn has_safetensors_name(name: &str) -> bool {
    let (_, extension) = name.rsplit_once('.').unwrap_or_default();
    extension.eq_ignore_ascii_case("safetensors")
}

/// A file that is one tensor of bytes, without a header.
fn whole(name: &str, bytes: u64) -> Result<Header> {
    let tensor = TensorEntry {
        name: name.to_owned(),
        dtype: DType::U8,
        shape: Shape::new(&[bytes])?,
        start: 0,
        end: bytes,
    };
    Ok(Header {
        tensors: vec![tensor],
        metadata: None,
        data_offset: 0,
    })
}

/// Returns the name of a weight of the model, from its name in a file: with the folder of the file in front, as the files
/// of a pipeline (unet/…, vae/…, 2_Dense/…) use the same names.
pub fn weight_name<'a>(folder: &str, in_file: &'a str) -> Cow<'a, str> {
    match folder {
        "" => Cow::Borrowed(in_file),
        folder => Cow::Owned(format!("{folder}{in_file}")),
    }
}

/// Returns the tensors of a file under the names of the weights that they become.
fn in_folder(file_name: &str, tensors: &[TensorEntry]) -> Vec<TensorEntry> {
    let folder = folder_of(file_name);
    let named = tensors.iter().map(|tensor| TensorEntry {
        name: weight_name(folder, &tensor.name).into_owned(),
        ..tensor.clone()
    });
    named.collect()
}

/// What was stored of files.
pub struct StoredFiles {
    /// For each file, the stored tensor of each entry of its header, in order.
    pub tensors: Vec<Vec<WrittenTensor>>,
    /// Totals over all files.
    pub counts: Imported,
}

/// Stores the tensors of files and records the files; the caller links the tensors. `bases` has, for each file, the
/// tensors that its own may be stored as deltas against, by name.
pub fn store_files(
    store: &Store,
    of: StateDict,
    files: Vec<FileIn<'_>>,
    bases: &[impl Borrow<HashMap<String, Uuid>>],
) -> Result<StoredFiles> {
    let mut counts = Imported {
        model: of.id(),
        ..Imported::default()
    };
    let (mut read, mut bodies) = (Vec::new(), Vec::new());
    for file in files {
        counts.raw_bytes += file.header.file_bytes() - file.header.data_offset;
        read.push((file.name, file.format, file.header, file.head));
        bodies.push(file.body);
    }
    let stored = store_bodies(store, &read, bodies, bases, &mut counts)?;
    let mut tensors = Vec::new();
    for ((name, format, header, head), (of_file, hashes)) in read.iter().zip(stored) {
        if *format == Format::Safetensors {
            counts.weights += of_file.len() as u64;
            let elements = header.tensors.iter().map(|t| t.shape.elements());
            counts.parameters += elements.sum::<u64>();
        }
        let file = NewFile {
            name,
            format: *format,
            header: head,
            bytes: header.file_bytes(),
            hashes,
            tensors: &of_file,
        };
        files::record(store, of, file)?;
        tensors.push(of_file);
    }
    Ok(StoredFiles { tensors, counts })
}

/// Name, format, header, and the header's bytes.
type ReadFile<'a> = (&'a str, Format, Header, Vec<u8>);

/// Stores the tensors of files: those to be read all in one write, then those of stored chunks.
fn store_bodies(
    store: &Store,
    files: &[ReadFile<'_>],
    bodies: Vec<Body<'_>>,
    bases: &[impl Borrow<HashMap<String, Uuid>>],
    counts: &mut Imported,
) -> Result<Vec<(Vec<WrittenTensor>, FileHashes)>> {
    let (mut inputs, mut incoming, mut of_stored) = (Vec::new(), Vec::new(), Vec::new());
    for (number, ((name, _, header, head), body)) in files.iter().zip(bodies).enumerate() {
        let folder = folder_of(name);
        let base = bases.get(number).map(|bases| bases.borrow());
        match body {
            Body::Source(source) => {
                let mut hashes = FileHashes::new();
                hashes.update(head);
                incoming.extend(header.tensors.iter().map(|t| {
                    Incoming {
                        file: inputs.len(),
                        name: &t.name,
                        dtype: t.dtype,
                        shape: &t.shape,
                        offset: header.data_offset + t.start,
                        base: base
                            .and_then(|base| base.get(weight_name(folder, &t.name).as_ref()))
                            .copied(),
                    }
                }));
                inputs.push(InFile { source, hashes });
                of_stored.push(None);
            }
            Body::Stored(body) => of_stored.push(Some(body)),
        }
    }
    let written = write(store, inputs, &incoming)?;
    counts.new_chunks += written.new_chunks;
    counts.new_bytes += written.new_bytes;
    counts.reused_bytes += written.reused_bytes;
    let (mut rest, mut hashes) = (written.tensors.into_iter(), written.files.into_iter());
    files
        .iter()
        .zip(of_stored)
        .map(|((_, _, header, _), body)| match body {
            None => {
                let tensors = rest.by_ref().take(header.tensors.len()).collect();
                Ok((tensors, hashes.next().unwrap_or_default()))
            }
            Some(body) => {
                let (chunks, bytes, reused) = body.counts;
                counts.new_chunks += chunks;
                counts.new_bytes += bytes;
                counts.reused_bytes += reused;
                let tensors: Vec<Incoming<'_>> = header
                    .tensors
                    .iter()
                    .map(|t| Incoming {
                        file: 0,
                        name: &t.name,
                        dtype: t.dtype,
                        shape: &t.shape,
                        offset: header.data_offset + t.start,
                        base: None,
                    })
                    .collect();
                Ok((record(store, &tensors, &body.tensors)?, body.hashes))
            }
        })
        .collect()
}

/// Adds the weights of files to a model, all in one write, and returns them; the caller describes the model afterwards.
pub fn import_files(
    store: &Store,
    model: Uuid,
    files: Vec<FileIn<'_>>,
) -> Result<(Imported, Vec<Weight>)> {
    let parent = parent_tensors(store, model)?;
    let bases = vec![&parent; files.len()];
    // Files of other formats have no weights.
    let listed: Vec<Option<(&str, Vec<TensorEntry>)>> = files
        .iter()
        .map(|file| match file.format {
            Format::Safetensors => Some((file.name, in_folder(file.name, &file.header.tensors))),
            _ => None,
        })
        .collect();
    let stored = store_files(store, StateDict::Model(model), files, &bases)?;
    let mut weights = Vec::new();
    for (listed, tensors) in listed.into_iter().zip(stored.tensors) {
        let Some((name, entries)) = listed else {
            continue;
        };
        insert_weights(store, model, name, &entries, &tensors)?;
        weights.extend(Weight::of_file(&entries, &tensors));
    }
    Ok((stored.counts, weights))
}

fn insert_weights(
    store: &Store,
    model: Uuid,
    name: &str,
    entries: &[TensorEntry],
    tensors: &[WrittenTensor],
) -> Result<()> {
    let mut rows = entries.iter().zip(tensors).map(|(t, stored)| {
        json!({ "weight_name": t.name, "tensor_id": stored.id.to_string(), "file_offset": t.start,
                "trainable": modelstore_formats::architecture::is_trainable(&t.name, t.dtype, t.shape.dims()) })
    });
    let mut inserted = 0;
    loop {
        let batch: Vec<_> = rows.by_ref().take(BATCH_ROWS).collect();
        if batch.is_empty() {
            break;
        }
        inserted += in_scratch_memory(|| insert_batch(store, model, name, batch))?;
    }
    if inserted != tensors.len() {
        return Err(Failure::new(
            Code::ERRCODE_UNIQUE_VIOLATION,
            format!("file \"{name}\" contains weights that the model already has"),
        )
        .detail("A weight can be in only one file of a model."));
    }
    Ok(())
}

/// Returns how many of the rows are new.
fn insert_batch(
    store: &Store,
    model: Uuid,
    name: &str,
    rows: Vec<serde_json::Value>,
) -> Result<usize> {
    let inserted = store.insert(
        "INSERT INTO @store@.model_weights (model_id, weight_name, tensor_id, trainable, file_name, file_offset)
         SELECT $1, r.weight_name, r.tensor_id, r.trainable, $2, r.file_offset
         FROM jsonb_to_recordset($3) AS r(weight_name text, tensor_id uuid, trainable boolean, file_offset bigint)
         ON CONFLICT DO NOTHING RETURNING 1",
        &[uuid(model), text(name), pgrx::JsonB(rows.into()).into()],
        |_| Ok(()),
    )?;
    Ok(inserted.len())
}

/// Locks a model's parent, and so keeps its tensors, until the transaction ends.
pub fn keep_parent(store: &Store, model: Uuid) -> Result<()> {
    let kept = store.write(
        "SELECT 1 FROM @store@.models p JOIN @store@.models m ON m.parent_model_id = p.model_id
         WHERE m.model_id = $1 FOR KEY SHARE OF p",
        &[uuid(model)],
        |_| Ok(()),
    );
    kept.map(drop)
}

/// Returns the parent's tensors by weight name, as bases of deltas.
pub fn parent_tensors(store: &Store, model: Uuid) -> Result<HashMap<String, Uuid>> {
    keep_parent(store, model)?;
    let rows = store.rows(
        "SELECT w.weight_name, w.tensor_id
         FROM @store@.models m JOIN @store@.model_weights w ON w.model_id = m.parent_model_id
         WHERE m.model_id = $1",
        &[maybe_uuid(Some(model))],
        |row| {
            Ok((
                row.get::<String>(1)?,
                crate::pg::arguments::from_sql_uuid(row.get::<SqlUuid>(2)?),
            ))
        },
    )?;
    Ok(rows.into_iter().collect())
}
