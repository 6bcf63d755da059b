//! Checks that a checkpoint must pass before its transaction can commit.

use crate::error::{Code, Failure, Result};
use crate::model::architecture::{Weight, tied_weights};
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{text, uuid};
use crate::settings;
use crate::store::Store;
use modelstore_formats::architecture::{is_mask, is_trainable, parameter_count};
use modelstore_formats::safetensors::Header;
use modelstore_tensor::{DType, Shape};
use pgrx::datum::DatumWithOid;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// No weight and no optimizer state contains a NaN or an infinity.
    Finite,
    /// Names, shapes and dtypes of the weights equal those of the previous checkpoint, or of the model.
    Shape,
    /// The number of parameters equals that of the model's config.
    Parameters,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::Finite => "finite",
            Check::Shape => "shape",
            Check::Parameters => "parameters",
        }
    }
}

/// Returns the given checks or, without a list, those of the setting.
pub fn checks(named: Option<Vec<Option<String>>>) -> Result<Vec<Check>> {
    let names = match named {
        Some(names) => names.into_iter().flatten().collect(),
        None => settings::checkpoint_checks(),
    };
    names
        .iter()
        .map(|name| {
            let checks = [Check::Finite, Check::Shape, Check::Parameters];
            let found = checks.into_iter().find(|check| check.name() == name);
            found.ok_or_else(|| {
                Failure::new(
                    Code::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("unknown check \"{name}\" for checkpoints"),
                )
                .detail("The checks are finite, shape and parameters.")
                .hint("SHOW modelstore.checkpoint_checks;")
            })
        })
        .collect()
}

/// Returns the error of a check. The hint keeps the other checks on.
fn refused(check: Check, message: String) -> Failure {
    let others: Vec<&str> = [Check::Finite, Check::Shape, Check::Parameters]
        .into_iter()
        .filter(|other| *other != check)
        .map(Check::name)
        .collect();
    Failure::new(Code::ERRCODE_CHECK_VIOLATION, message).hint(format!(
        "SET modelstore.checkpoint_checks = '{}';",
        others.join(",")
    ))
}

/// Reads the zone maps and decodes nothing. Masks may contain -inf.
pub fn check_finite(store: &Store, of: StateDict) -> Result<()> {
    let entries = "SELECT w.weight_name, w.tensor_id FROM @entries@ w WHERE w.@owner@ = $1";
    not_finite(store, &of.sql(entries), &[uuid(of.id())])
}

/// Checks one tensor.
pub fn check_tensor_finite(store: &Store, name: &str, tensor: Uuid) -> Result<()> {
    not_finite(store, "SELECT $1, $2", &[text(name), uuid(tensor)])
}

/// Checks the tensors of `entries`, a query of names and tensors.
fn not_finite(store: &Store, entries: &str, arguments: &[DatumWithOid<'_>]) -> Result<()> {
    let found = store.rows(
        &format!(
            "SELECT e.name, sum(d.nan_count)::bigint, sum(d.inf_count)::bigint,
                    bool_or(d.inf_count > 0 AND coalesce(d.value_max, 'Infinity') = 'Infinity')
             FROM ({entries}) AS e(name, tensor_id) JOIN @store@.tensor_data d USING (tensor_id)
             WHERE d.nan_count > 0 OR d.inf_count > 0
             GROUP BY e.name ORDER BY e.name"
        ),
        arguments,
        |row| {
            Ok((
                row.get::<String>(1)?,
                row.get::<i64>(2)?,
                row.get::<i64>(3)?,
                row.opt::<bool>(4)?.unwrap_or(true),
            ))
        },
    )?;
    let masks = settings::mask_buffers();
    let may_be_infinite = |name: &str| {
        let leaf = name.rsplit('.').next().unwrap_or(name);
        is_mask(name) || masks.iter().any(|mask| mask == leaf)
    };
    let refused_one = found
        .into_iter()
        .find(|(name, nans, _, above)| *nans > 0 || *above || !may_be_infinite(name));
    match refused_one {
        None => Ok(()),
        Some((name, nans, infinities, _)) => Err(refused(
            Check::Finite,
            format!("tensor \"{name}\" of the checkpoint is not finite"),
        )
        .detail(format!(
            "It contains {nans} NaN and {infinities} infinite elements."
        ))),
    }
}

/// Passes if the model has neither weights nor checkpoints.
pub fn check_shapes(store: &Store, before: StateDict, header: &Header) -> Result<()> {
    let rows = store.rows(
        &before.sql(
            "SELECT w.weight_name, t.dtype, t.shape
             FROM @weights@ w JOIN @store@.tensor_metadata t USING (tensor_id) WHERE w.@owner@ = $1",
        ),
        &[uuid(before.id())],
        |row| {
            let dtype = DType::from_name(&row.get::<String>(2)?)?;
            let shape = Shape::from_i64(&row.get::<Vec<i64>>(3)?)?;
            Ok((row.get::<String>(1)?, (dtype, shape)))
        },
    )?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut expected: BTreeMap<String, (DType, Shape)> = rows.into_iter().collect();
    for tensor in &header.tensors {
        let Some((dtype, shape)) = expected.remove(&tensor.name) else {
            return Err(refused(
                Check::Shape,
                format!(
                    "weight \"{}\" of the checkpoint is not one of {before}",
                    tensor.name
                ),
            ));
        };
        if dtype != tensor.dtype || shape != tensor.shape {
            return Err(refused(
                Check::Shape,
                format!(
                    "weight \"{}\" of the checkpoint is {}{}",
                    tensor.name, tensor.dtype, tensor.shape
                ),
            )
            .detail(format!("In {before} it is {dtype}{shape}.")));
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(name) => Err(
            refused(Check::Shape, format!("checkpoint has no weight \"{name}\""))
                .detail(format!("There is one in {before}.")),
        ),
    }
}

/// Numbers of elements of a checkpoint's weights, tied ones once.
pub struct Parameters {
    /// All weights, as counted by `v_model_architecture`.
    pub all: u64,
    /// Those that can be trained: floating point, neither a buffer nor a mask.
    learnable: u64,
    /// The number according to the model's config.
    expected: Option<u64>,
}

/// Counts them by the rules for the weights of a model.
pub fn parameters(store: &Store, model: Uuid, mut weights: Vec<Weight>) -> Result<Parameters> {
    let config = store
        .row(
            "SELECT config FROM @store@.models WHERE model_id = $1",
            &[uuid(model)],
            |row| row.json(1),
        )?
        .flatten();
    weights.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut counted = Parameters {
        all: 0,
        learnable: 0,
        expected: config.as_ref().and_then(parameter_count),
    };
    let tied = tied_weights(&weights, config.as_ref());
    for (weight, _) in weights.iter().zip(tied).filter(|(_, tied)| tied.is_none()) {
        let elements = weight.elements();
        counted.all = counted.all.saturating_add(elements);
        if is_trainable(&weight.name, weight.dtype, &weight.dims) && !is_mask(&weight.name) {
            counted.learnable = counted.learnable.saturating_add(elements);
        }
    }
    Ok(counted)
}

/// Raises an error if the model's config states a different number of parameters.
pub fn check_parameters(counted: &Parameters) -> Result<()> {
    match counted.expected {
        Some(expected) if expected != counted.learnable => Err(refused(
            Check::Parameters,
            format!(
                "checkpoint has {} parameters, not {expected}",
                counted.learnable
            ),
        )
        .detail("Expected the number of parameters in the model's config.")),
        _ => Ok(()),
    }
}
