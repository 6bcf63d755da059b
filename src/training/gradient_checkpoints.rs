//! Chooses the layers to recompute in the backward pass instead of keeping their activations.

use crate::error::{Code, Failure, Result, info, or_raise, required};
use crate::model::arguments::Regmodel;
use crate::model::models;
use crate::pg::arguments::{from_sql_uuid, uuid};
use crate::store::Store;
use crate::training::{latest, sessions};
use modelstore_formats::architecture::{WeightInfo, layer_count, recognise};
use modelstore_tensor::DType;
use modelstore_training::activations::TransformerLayer;
use modelstore_training::gradient_checkpoints::{MAX_LAYERS, Plan, Policy, plan};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use serde_json::Value;
use std::ops::ControlFlow;
use uuid::Uuid;

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn plan_gradient_checkpoints(
    model: Option<Regmodel>,
    memory_budget: default!(Option<i64>, "NULL"),
    batch_size: default!(Option<i32>, 1),
    seq_len: default!(Option<i32>, 512),
    element_bytes: default!(Option<i32>, 2),
) -> TableIterator<
    'static,
    (
        name!(layer_index, i32),
        name!(layer_name, String),
        name!(policy, &'static str),
        name!(segment, i32),
        name!(kept_bytes, i64),
        name!(recompute_flops, f64),
        name!(peak_bytes, i64),
    ),
> {
    TableIterator::new(or_raise((|| {
        let store = Store::for_reading()?;
        let model = required(model, "model")?.0;
        let planned = Planned::new(
            &store,
            model,
            memory_budget,
            batch_size,
            seq_len,
            element_bytes,
        )?;
        let peak = planned.plan.peak_bytes as i64;
        Ok(planned
            .rows()
            .map(move |(index, name, policy, segment, kept, flops)| {
                (index, name.to_owned(), policy, segment, kept, flops, peak)
            })
            .collect::<Vec<_>>())
    })()))
}

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_gradient_checkpoints(
    session_id: Option<SqlUuid>,
    memory_budget: default!(Option<i64>, "NULL"),
    batch_size: default!(Option<i32>, 1),
    seq_len: default!(Option<i32>, 512),
    element_bytes: default!(Option<i32>, 2),
) -> i64 {
    or_raise((|| {
        let store = Store::current()?;
        let session = from_sql_uuid(required(session_id, "session_id")?);
        let model = sessions::model_of(&store, session)?;
        let planned = Planned::new(
            &store,
            model,
            memory_budget,
            batch_size,
            seq_len,
            element_bytes,
        )?;
        store.execute(
            "DELETE FROM @store@.gradient_checkpoints WHERE session_id = $1",
            &[uuid(session)],
        )?;
        let mut columns = (vec![], vec![], vec![], vec![], vec![]);
        for (index, _, policy, segment, kept, flops) in planned.rows() {
            columns.0.push(index);
            columns.1.push(policy);
            columns.2.push(segment);
            columns.3.push(kept);
            columns.4.push(flops);
        }
        let inserted = store.execute(
            "INSERT INTO @store@.gradient_checkpoints (session_id, layer_index, policy, segment, kept_bytes, recompute_flops)
             SELECT $1, * FROM unnest($2, $3, $4, $5, $6)",
            &[
                uuid(session),
                columns.0.into(),
                columns.1.into(),
                columns.2.into(),
                columns.3.into(),
                columns.4.into(),
            ],
        )?;
        Ok(inserted as i64)
    })())
}

/// A plan with its layers.
struct Planned {
    layers: Vec<(i32, String)>,
    plan: Plan,
}

impl Planned {
    fn new(
        store: &Store,
        model: Uuid,
        memory_budget: Option<i64>,
        batch_size: Option<i32>,
        seq_len: Option<i32>,
        element_bytes: Option<i32>,
    ) -> Result<Planned> {
        let (layers, sizes) = sizes(store, model)?;
        let layer = TransformerLayer {
            sequence_length: positive(required(seq_len, "seq_len")?, "seq_len")?,
            batch_size: positive(required(batch_size, "batch_size")?, "batch_size")?,
            element_bytes: positive(required(element_bytes, "element_bytes")?, "element_bytes")?,
            ..sizes
        };
        let budget = memory_budget
            .map(|bytes| positive(bytes, "memory_budget"))
            .transpose()?;
        let chain = layer.chain(layers.len())?;
        let input_bytes = chain.first().map_or(0, |layer| layer.output_bytes);
        let plan = plan(input_bytes, &chain, budget, &mut || {
            pgrx::check_for_interrupts!();
            ControlFlow::Continue(())
        })?;
        if !plan.exact {
            info(
                "the plan fits, but may not be optimal: there were too many candidates to try all",
            );
        }
        Ok(Planned { layers, plan })
    }

    fn rows(&self) -> impl Iterator<Item = (i32, &str, &'static str, i32, i64, f64)> {
        self.layers
            .iter()
            .zip(&self.plan.layers)
            .map(|((index, name), layer)| {
                let policy = match layer.policy {
                    Policy::Store => "store",
                    Policy::Recompute => "recompute",
                };
                (
                    *index,
                    name.as_str(),
                    policy,
                    layer.segment as i32,
                    layer.kept_bytes as i64,
                    layer.extra_work as f64,
                )
            })
    }
}

/// Returns the layers of a model and their common sizes: those derived at import, else from the newest checkpoint's
/// weights and the config, else from the config alone.
fn sizes(store: &Store, model: Uuid) -> Result<(Vec<(i32, String)>, TransformerLayer)> {
    models::require(store, model)?;
    let mut layers = store.rows(
        "SELECT layer_index, layer_name FROM @store@.transformer_layers WHERE model_id = $1 AND layer_type <> 'mtp' ORDER BY layer_index",
        &[uuid(model)],
        |row| Ok((row.get::<i32>(1)?, row.get::<String>(2)?)),
    )?;
    let known = store.row(
        "SELECT m.hidden_size, m.config,
                (SELECT l.attention_heads::bigint FROM @store@.transformer_layers l
                 WHERE l.model_id = m.model_id AND l.attention_heads IS NOT NULL ORDER BY l.layer_index LIMIT 1)
         FROM @store@.models m WHERE m.model_id = $1",
        &[uuid(model)],
        |row| Ok((row.opt::<i64>(1)?, row.json(2)?, row.opt::<i64>(3)?)),
    )?;
    let (hidden, config, heads) = known.unwrap_or_default();
    let mut hidden = hidden.and_then(|n| u64::try_from(n).ok());
    let mut heads = heads.and_then(|n| u64::try_from(n).ok());
    let mut inner = None;
    if layers.is_empty() {
        let weights = match latest::newest(store, model, None)? {
            Some(checkpoint) => weights(store, checkpoint)?,
            None => Vec::new(),
        };
        let infos: Vec<WeightInfo<'_>> = weights
            .iter()
            .map(|(name, dtype, dims)| WeightInfo {
                name,
                dtype: *dtype,
                dims,
            })
            .collect();
        let found = recognise(&infos, config.as_ref());
        layers = if found.layers.is_empty() {
            numbered(config.as_ref())?
        } else {
            let layers = found.layers.iter().filter(|l| l.kind != "mtp");
            layers
                .map(|l| (i32::try_from(l.index).unwrap_or(i32::MAX), l.name.clone()))
                .collect()
        };
        hidden = found.hidden_size.or(hidden);
        heads = found.num_heads.or(heads);
        inner = found.intermediate_size;
    }
    let unknown = |what| {
        Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{what} of model {model} is unknown"),
        )
        .detail("Layers and sizes come from the names and shapes of the weights, of the model or of its newest checkpoint, and from the config.")
        .hint(store.sql(&format!(
            "SELECT layers, attention_heads, hidden_size FROM @store@.v_model_architecture WHERE model_id = '{model}';"
        )))
    };
    if layers.is_empty() {
        return Err(unknown("number of layers"));
    }
    let hidden = hidden.ok_or_else(|| unknown("hidden size"))?;
    let heads = heads.ok_or_else(|| unknown("number of attention heads"))?;
    // The usual factor, if the config does not say.
    let inner = config
        .as_ref()
        .and_then(|config| {
            ["intermediate_size", "n_inner", "ffn_dim"]
                .iter()
                .find_map(|key| config.get(key).and_then(Value::as_u64))
        })
        .or(inner)
        .unwrap_or_else(|| hidden.saturating_mul(4));
    let sizes = TransformerLayer {
        hidden_size: hidden,
        intermediate_size: inner,
        num_heads: heads,
        sequence_length: 1,
        batch_size: 1,
        element_bytes: 1,
    };
    Ok((layers, sizes))
}

/// Returns the layers according to the config alone.
fn numbered(config: Option<&Value>) -> Result<Vec<(i32, String)>> {
    let count = config.and_then(layer_count).unwrap_or(0);
    if count > MAX_LAYERS as u64 {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        return Err(modelstore_training::Error::TooManyLayers(count).into());
    }
    Ok((0..count as i32)
        .map(|index| (index, format!("layer.{index}")))
        .collect())
}

/// Returns names, dtypes and dimensions of a checkpoint's weights.
fn weights(store: &Store, checkpoint: Uuid) -> Result<Vec<(String, DType, Vec<u64>)>> {
    store.rows(
        "SELECT w.weight_name, t.dtype, t.shape
         FROM @store@.checkpoint_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
         WHERE w.checkpoint_id = $1 ORDER BY w.weight_name COLLATE \"C\"",
        &[uuid(checkpoint)],
        |row| {
            let dims: Vec<i64> = row.get(3)?;
            let dims = dims.into_iter().map(|d| u64::try_from(d).unwrap_or(0));
            let dtype = DType::from_name(&row.get::<String>(2)?)?;
            Ok((row.get(1)?, dtype, dims.collect()))
        },
    )
}

fn positive<T: TryInto<u64> + Copy + std::fmt::Display>(n: T, argument: &str) -> Result<u64> {
    n.try_into().ok().filter(|&n| n > 0).ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{argument} {n} is not positive"),
        )
    })
}
