//! What the weights of a model show: layers, heads, embeddings, the role of each weight, tied weights.

use crate::error::{Code, Failure, Result};
use crate::model::content_hash::ContentHash;
use crate::pg::arguments::{bytes, from_sql_uuid, maybe_text, text, uuid};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_chunk::ChunkHash;
use modelstore_chunk::write::WrittenTensor;
use modelstore_formats::architecture::{Architecture, SharedWeight, WeightInfo, recognise, tied};
use modelstore_formats::safetensors::TensorEntry;
use modelstore_tensor::DType;
use pgrx::JsonB;
use pgrx::datum::Uuid as SqlUuid;
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// Rows of a statement.
const BATCH_ROWS: usize = 4096;

/// A weight of a model.
pub struct Weight {
    /// Its name.
    pub name: String,
    /// The key of its tensor.
    pub tensor: Uuid,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub dims: Vec<u64>,
    /// BLAKE3-256 of its raw bytes.
    pub content_hash: ChunkHash,
    /// Whether all its elements are equal: two such tensors can be equal without being the same parameter.
    pub is_constant: bool,
}

impl Weight {
    /// Returns the number of its elements.
    pub fn elements(&self) -> u64 {
        self.dims
            .iter()
            .fold(1, |n: u64, dim| n.saturating_mul(*dim))
    }

    /// Returns the weights of a file's entries, whose tensors were stored in the same order.
    pub fn of_file(entries: &[TensorEntry], written: &[WrittenTensor]) -> Vec<Weight> {
        let pairs = entries.iter().zip(written);
        pairs
            .map(|(entry, tensor)| Weight {
                name: entry.name.clone(),
                tensor: tensor.id,
                dtype: entry.dtype,
                dims: entry.shape.dims().to_vec(),
                content_hash: tensor.content_hash,
                is_constant: tensor.is_constant,
            })
            .collect()
    }
}

/// Derives the architecture again, from the stored weights and the config. Returns the number of parameters.
pub fn describe(store: &Store, model: Uuid) -> Result<u64> {
    describe_weights(store, model, weights(store, model)?)
}

/// Derives the architecture of a model that has exactly these weights. Returns the number of its parameters, tied
/// weights once.
pub fn describe_weights(store: &Store, model: Uuid, mut weights: Vec<Weight>) -> Result<u64> {
    weights.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let config = store
        .row(
            "SELECT config FROM @store@.models WHERE model_id = $1",
            &[uuid(model)],
            |row| row.json(1),
        )?
        .flatten();
    let infos: Vec<WeightInfo<'_>> = weights
        .iter()
        .map(|w| WeightInfo {
            name: &w.name,
            dtype: w.dtype,
            dims: &w.dims,
        })
        .collect();
    let architecture = recognise(&infos, config.as_ref());
    let tied = tied_names(&weights, config.as_ref());
    replace(store, model, &weights, &architecture, &tied)?;
    let content_hash = ContentHash::of(&weights);
    store.execute(
        "UPDATE @store@.models
         SET architecture = coalesce($2, architecture), hidden_size = $3, vocab_size = $4, attention_heads = $5, kv_heads = $6,
             content_hash = $7
         WHERE model_id = $1",
        &[
            uuid(model),
            maybe_text(architecture.family.as_deref()),
            architecture.hidden_size.map(|n| n as i64).into(),
            architecture.vocab_size.map(|n| n as i64).into(),
            architecture.num_heads.map(|n| n as i64).into(),
            architecture.num_kv_heads.map(|n| n as i64).into(),
            bytes(content_hash.finish().as_bytes()),
        ],
    )?;
    let untied = weights.iter().filter(|w| !tied.contains_key(&w.name));
    Ok(untied.fold(0, |n: u64, w| n.saturating_add(w.elements())))
}

/// Returns whether a model has weights.
pub fn has_weights(store: &Store, model: Uuid) -> Result<bool> {
    let found = store.row(
        "SELECT EXISTS (SELECT FROM @store@.model_weights WHERE model_id = $1)",
        &[uuid(model)],
        |row| row.get::<bool>(1),
    )?;
    Ok(found.unwrap_or(false))
}

fn weights(store: &Store, model: Uuid) -> Result<Vec<Weight>> {
    store.rows(
        "SELECT w.weight_name, t.tensor_id, t.dtype, t.shape,
                coalesce((SELECT min(d.value_min) = max(d.value_max) AND sum(d.nan_count) = 0
                          FROM @store@.tensor_data d WHERE d.tensor_id = t.tensor_id), true), t.content_hash
         FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
         WHERE w.model_id = $1",
        &[uuid(model)],
        |row| {
            let dims: Vec<i64> = row.get(4)?;
            Ok(Weight {
                name: row.get(1)?,
                tensor: from_sql_uuid(row.get::<SqlUuid>(2)?),
                dtype: DType::from_name(&row.get::<String>(3)?)?,
                dims: dims
                    .into_iter()
                    .map(|d| u64::try_from(d).unwrap_or(0))
                    .collect(),
                is_constant: row.get(5)?,
                content_hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(6)?)?,
            })
        },
    )
}

fn replace(
    store: &Store,
    model: Uuid,
    weights: &[Weight],
    architecture: &Architecture,
    tied: &HashMap<String, String>,
) -> Result<()> {
    store.execute(
        "DELETE FROM @store@.embeddings WHERE model_id = $1",
        &[uuid(model)],
    )?;
    store.execute(
        "UPDATE @store@.model_weights SET layer_index = NULL WHERE model_id = $1 AND layer_index IS NOT NULL",
        &[uuid(model)],
    )?;
    store.execute(
        "DELETE FROM @store@.transformer_layers WHERE model_id = $1",
        &[uuid(model)],
    )?;

    let layers = architecture
        .layers
        .iter()
        .map(
            |l| json!({ "i": l.index, "name": l.name, "kind": l.kind, "parameters": l.parameters,
                        "heads": l.heads.map(|h| h.count), "kv": l.heads.map(|h| h.kv_count), "dim": l.heads.map(|h| h.dim) }),
        );
    insert(
        store,
        model,
        "INSERT INTO @store@.transformer_layers (model_id, layer_index, layer_name, layer_type, parameter_count,
                                                 attention_heads, kv_heads, head_dim)
         SELECT $1, r.i, r.name, r.kind, r.parameters, r.heads, r.kv, r.dim
         FROM jsonb_to_recordset($2) AS r(i integer, name text, kind text, parameters bigint, heads integer, kv integer, dim bigint)",
        layers,
    )?;
    let embeddings = architecture.embeddings.iter().filter_map(|e| {
        let weight = weights.get(e.weight)?;
        Some(json!({ "kind": e.kind, "name": weight.name, "rows": e.rows, "dim": e.dim }))
    });
    insert(
        store,
        model,
        "INSERT INTO @store@.embeddings (model_id, kind, weight_name, row_count, dim)
         SELECT $1, r.kind, r.name, r.rows, r.dim
         FROM jsonb_to_recordset($2) AS r(kind text, name text, rows bigint, dim bigint)
         ON CONFLICT DO NOTHING",
        embeddings,
    )?;
    let roles = weights
        .iter()
        .zip(&architecture.weight_roles)
        .map(|(w, role)| json!({ "name": w.name, "layer": role.layer, "component": role.component, "tied": tied.get(&w.name) }));
    insert(
        store,
        model,
        // However the weights were added: buffers are not trained.
        "UPDATE @store@.model_weights w
         SET layer_index = r.layer, component = r.component, tied_to = r.tied,
             trainable = w.trainable AND r.component IS DISTINCT FROM 'buffer'
         FROM jsonb_to_recordset($2) AS r(name text, layer integer, component text, tied text)
         WHERE w.model_id = $1 AND w.weight_name = r.name
           AND ((w.layer_index, w.component, w.tied_to) IS DISTINCT FROM (r.layer, r.component, r.tied)
                OR w.trainable AND r.component = 'buffer')",
        roles,
    )
}

/// Runs a statement with `$2` as an array of rows, for so many of them that their memory does not count.
fn insert(
    store: &Store,
    model: Uuid,
    sql: &str,
    mut rows: impl Iterator<Item = Value>,
) -> Result<()> {
    loop {
        let batch: Vec<Value> = rows.by_ref().take(BATCH_ROWS).collect();
        if batch.is_empty() {
            return Ok(());
        }
        in_scratch_memory(|| {
            store.execute(sql, &[uuid(model), JsonB(Value::Array(batch)).into()])
        })?;
    }
}

/// Returns, for each weight, the index of an earlier one that is the same parameter. Weights are in the order of names.
pub fn tied_weights(weights: &[Weight], config: Option<&Value>) -> Vec<Option<usize>> {
    let shared: Vec<SharedWeight<'_>> = weights
        .iter()
        .map(|w| SharedWeight {
            name: &w.name,
            content: *w.tensor.as_bytes(),
            rank: w.dims.len(),
            constant: w.is_constant,
        })
        .collect();
    tied(&shared, config)
}

/// Maps each tied weight to the earlier weight that is the same parameter.
fn tied_names(weights: &[Weight], config: Option<&Value>) -> HashMap<String, String> {
    weights
        .iter()
        .zip(tied_weights(weights, config))
        .filter_map(|(weight, earlier)| {
            let earlier = weights.get(earlier?)?;
            Some((weight.name.clone(), earlier.name.clone()))
        })
        .collect()
}

/// Returns the number of elements of a model's weights in one of its files, tied weights once.
pub fn parameters(store: &Store, model: Uuid, file_name: &str) -> Result<u64> {
    let counted = store.row(
        "SELECT coalesce(sum(t.element_count), 0)::bigint
         FROM @store@.model_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
         WHERE w.model_id = $1 AND w.tied_to IS NULL AND w.file_name = $2",
        &[uuid(model), text(file_name)],
        |row| row.get::<i64>(1),
    )?;
    Ok(counted.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

/// Returns the error for a weight that the model does not have.
pub fn unknown_weight(store: &Store, model: Uuid, name: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("model {model} has no weight \"{name}\""),
    )
    .hint(store.sql(&format!(
        "SELECT weight_name FROM @store@.model_weights WHERE model_id = '{model}';"
    )))
}
