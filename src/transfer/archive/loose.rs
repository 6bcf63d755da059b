//! Tensors that are in no file, gradients and optimizer state added one by one, as a safetensors file made of them.

use crate::error::{Code, Failure, Result};
use crate::formats::safetensors::import::FileIn;
use crate::io::Source;
use crate::pg::arguments::{to_sql_uuid, uuid};
use crate::store::Store;
use crate::tensor_storage::locate::{self, read_tensor, tensor_columns};
use crate::tensor_storage::stream::ChunkStream;
use crate::tensor_storage::write::write;
use crate::training::optimizer_state;
use modelstore_chunk::StoredTensor;
use modelstore_chunk::read::Wanted;
use modelstore_chunk::write::{FileHashes, InFile, Incoming, WrittenTensor};
use modelstore_formats::safetensors::{Header, build_header};
use pgrx::datum::Uuid as SqlUuid;
use std::rc::Rc;
use uuid::Uuid;

/// Whose tensors.
#[derive(Clone, Copy)]
pub enum Of {
    /// The gradients of a model's weights.
    Gradients(Uuid),
    /// The optimizer state of a checkpoint that is in no file.
    Optimizer(Uuid),
}

impl Of {
    fn id(self) -> Uuid {
        match self {
            Of::Gradients(id) | Of::Optimizer(id) => id,
        }
    }

    fn tensors(self, store: &Store) -> Result<Vec<StoredTensor>> {
        let sql = match self {
            Of::Gradients(_) => concat!(
                "SELECT ",
                tensor_columns!(),
                ", w.weight_name AS name FROM @store@.model_weights w
                 JOIN @store@.tensor_metadata t ON t.tensor_id = w.gradient_tensor_id WHERE w.model_id = $1 ORDER BY name"
            ),
            Of::Optimizer(_) => concat!(
                "SELECT ",
                tensor_columns!(),
                ", o.parameter_name || '.' || o.state_name AS name FROM @store@.optimizer_state o
                 JOIN @store@.tensor_metadata t USING (tensor_id) WHERE o.checkpoint_id = $1 AND o.file_name IS NULL ORDER BY name"
            ),
        };
        store.rows(sql, &[uuid(self.id())], |row| {
            let name = row.get(6)?;
            Ok(read_tensor(row, Some(name))?.check()?)
        })
    }
}

/// Returns the header of the file, and the tensors in its order; `None` if there are none.
fn layout(store: &Store, of: Of) -> Result<Option<(Vec<u8>, Vec<StoredTensor>)>> {
    let tensors = of.tensors(store)?;
    if tensors.is_empty() {
        return Ok(None);
    }
    let entries: Vec<_> = tensors
        .iter()
        .map(|tensor| (tensor.label.clone(), tensor.dtype, tensor.shape.clone()))
        .collect();
    let (head, order) = build_header(&entries, None)?;
    let in_order = order.iter().filter_map(|at| tensors.get(*at).cloned());
    Ok(Some((head, in_order.collect())))
}

/// Returns the size of the file; `None` if there are no such tensors.
pub fn bytes(store: &Store, of: Of) -> Result<Option<u64>> {
    let layout = layout(store, of)?;
    Ok(layout.map(|(head, tensors)| {
        let data: u64 = tensors.iter().map(|tensor| tensor.raw_bytes).sum();
        head.len() as u64 + data
    }))
}

/// The parts of the file, in order.
pub struct Loose {
    head: Option<Vec<u8>>,
    stream: ChunkStream,
}

impl Loose {
    /// Begins with the header.
    pub fn begin(store: &Store, of: Of) -> Result<Loose> {
        let (head, tensors) = layout(store, of)?.unwrap_or_default();
        let labels: Vec<Rc<str>> = tensors.iter().map(|t| t.label.as_str().into()).collect();
        let ids: Vec<Uuid> = tensors.iter().map(|t| t.id).collect();
        let chunks = locate::chunks_of(store, &ids)?;
        let wanted = chunks.into_iter().map(|(place, hash)| Wanted {
            hash,
            of: Rc::clone(&labels[place]),
            figures_of: None,
        });
        Ok(Loose {
            head: Some(head),
            stream: ChunkStream::new(store, wanted)?,
        })
    }

    /// Returns the next part, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self.head.take() {
            Some(head) => Ok(Some(head)),
            None => self.stream.next(),
        }
    }
}

/// Stores the tensors of such a file.
pub fn restore(store: &Store, of: Of, name: &str, source: &mut dyn Source) -> Result<()> {
    let header = FileIn::open(name, &mut *source)
        .map_err(|e| e.about(&format!("file \"{name}\"")))?
        .header;
    let incoming: Vec<Incoming<'_>> = header
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
    let hashes = FileHashes::new();
    let written = write(store, vec![InFile { source, hashes }], &incoming)?.tensors;
    match of {
        Of::Gradients(model) => put_gradients(store, model, &header, &written),
        Of::Optimizer(checkpoint) => {
            optimizer_state::check_names(&header)?;
            optimizer_state::insert(store, checkpoint, &header, &written, None)
        }
    }
}

fn put_gradients(
    store: &Store,
    model: Uuid,
    header: &Header,
    written: &[WrittenTensor],
) -> Result<()> {
    let names: Vec<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
    let ids: Vec<SqlUuid> = written.iter().map(|t| to_sql_uuid(t.id)).collect();
    let set = store.execute(
        "UPDATE @store@.model_weights w SET gradient_tensor_id = g.tensor_id
         FROM unnest($2, $3) AS g(name, tensor_id) JOIN @store@.tensor_metadata t USING (tensor_id), @store@.tensor_metadata own
         WHERE w.model_id = $1 AND w.weight_name = g.name AND own.tensor_id = w.tensor_id AND own.shape = t.shape",
        &[uuid(model), names.into(), ids.into()],
    )?;
    if set == written.len() {
        return Ok(());
    }
    Err(Failure::new(
        Code::ERRCODE_DATA_EXCEPTION,
        format!(
            "{} gradients of the archive fit {set} weights",
            written.len()
        ),
    )
    .detail("A gradient has the name and the shape of its weight."))
}
