//! Which layers to recompute in the backward pass instead of keeping their activations.

use crate::error::{Code, Failure, Result, info, or_raise, required};
use crate::registry::models;
use crate::store::Store;
use crate::store::arguments::{from_sql_uuid, uuid};
use crate::training::sessions;
use modelstore_training::activations::TransformerLayer;
use modelstore_training::gradient_checkpoints::{Plan, Policy, plan};
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;
use serde_json::Value;
use std::ops::ControlFlow;
use uuid::Uuid;

/// One row a layer. Without a budget, the plan that needs the least memory.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn plan_gradient_checkpoints(
    model_id: Option<SqlUuid>,
    memory_budget: default!(Option<i64>, "NULL"),
    batch_size: default!(i32, 1),
    seq_len: default!(i32, 512),
    element_bytes: default!(i32, 2),
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
        let model = from_sql_uuid(required(model_id, "model_id")?);
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

/// Records the plan for a run in `gradient_checkpoints`, in place of the one it had, and returns how many layers it has.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_gradient_checkpoints(
    session_id: Option<SqlUuid>,
    memory_budget: default!(Option<i64>, "NULL"),
    batch_size: default!(i32, 1),
    seq_len: default!(i32, 512),
    element_bytes: default!(i32, 2),
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

/// A plan with the layers it is of.
struct Planned {
    layers: Vec<(i32, String)>,
    plan: Plan,
}

impl Planned {
    fn new(
        store: &Store,
        model: Uuid,
        memory_budget: Option<i64>,
        batch_size: i32,
        seq_len: i32,
        element_bytes: i32,
    ) -> Result<Planned> {
        let (layers, sizes) = sizes(store, model)?;
        let layer = TransformerLayer {
            sequence_length: positive(seq_len, "seq_len")?,
            batch_size: positive(batch_size, "batch_size")?,
            element_bytes: positive(element_bytes, "element_bytes")?,
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
            info("the plan fits, but a better one may exist: there were too many to try all");
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

/// Layers of a model and the sizes they share, from what was recognised at import and from its config.
fn sizes(store: &Store, model: Uuid) -> Result<(Vec<(i32, String)>, TransformerLayer)> {
    models::require(store, model)?;
    let layers = store.rows(
        "SELECT layer_index, layer_name FROM @store@.transformer_layers WHERE model_id = $1 AND layer_type <> 'mtp' ORDER BY layer_index",
        &[uuid(model)],
        |row| Ok((row.get::<i32>(1)?, row.get::<String>(2)?)),
    )?;
    let known = store.row(
        "SELECT m.hidden_size, m.config,
                (SELECT count(*) FROM @store@.attention_heads h
                 WHERE h.model_id = m.model_id
                   AND h.layer_index = (SELECT min(layer_index) FROM @store@.attention_heads a WHERE a.model_id = m.model_id))
         FROM @store@.models m WHERE m.model_id = $1",
        &[uuid(model)],
        |row| Ok((row.opt::<i64>(1)?, row.json(2)?, row.get::<i64>(3)?)),
    )?;
    let (hidden, config, heads) = known.unwrap_or_default();
    let unknown = |what| {
        Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{what} of model {model} is not known"),
        )
        .detail("Layers and sizes come from the names and shapes of the weights and from the config.")
        .hint(store.sql(&format!(
            "SELECT layers, attention_heads, hidden_size FROM @store@.v_model_architecture WHERE model_id = '{model}';"
        )))
    };
    if layers.is_empty() {
        return Err(unknown("number of layers"));
    }
    let hidden = hidden
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| unknown("hidden size"))?;
    let heads = u64::try_from(heads)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| unknown("number of attention heads"))?;
    // Four times the hidden size is what models have that do not say otherwise.
    let inner = config
        .as_ref()
        .and_then(|config| {
            ["intermediate_size", "n_inner", "ffn_dim"]
                .iter()
                .find_map(|key| config.get(key).and_then(Value::as_u64))
        })
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

fn positive<T: TryInto<u64> + Copy + std::fmt::Display>(n: T, argument: &str) -> Result<u64> {
    n.try_into().ok().filter(|&n| n > 0).ok_or_else(|| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{argument} {n} is not positive"),
        )
    })
}
