//! Arrays of names and tensors as a file, and the model made of one.

use crate::error::{Code, Failure, Result, or_raise, required};
use crate::formats::safetensors::import::{FileIn, import_file};
use crate::formats::safetensors::import_sql::{DEFAULT_FILE_NAME, new_model, row};
use crate::io::tensors::TensorsSource;
use crate::model::arguments::Regmodel;
use crate::pg::jsonb::Jsonb;
use crate::store::Store;
use crate::tensor::tensor_array::TensorArray;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

/// Pairs names with tensors.
pub fn named<'a>(
    names: Vec<Option<String>>,
    tensors: &'a TensorArray<'_>,
) -> Result<TensorsSource<'a>> {
    let views = tensors.views()?;
    if names.len() != views.len() {
        return Err(Failure::new(
            Code::ERRCODE_ARRAY_ELEMENT_ERROR,
            format!("{} names do not match {} tensors", names.len(), views.len()),
        )
        .detail("Pass one name per tensor."));
    }
    let names = names.into_iter().map(|name| {
        name.ok_or_else(|| {
            Failure::new(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "names must not contain nulls",
            )
        })
    });
    let names = names.collect::<Result<Vec<String>>>()?;
    TensorsSource::new(&names.into_iter().zip(views).collect::<Vec<_>>())
}

#[pg_extern(volatile, parallel_unsafe, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn create_model(
    name: Option<&str>,
    version: Option<&str>,
    weight_names: Option<Vec<Option<String>>>,
    weights: Option<TensorArray<'_>>,
    config: default!(Option<Jsonb<'_>>, "NULL"),
    parent: default!(Option<Regmodel>, "NULL"),
    metadata: default!(Option<Jsonb<'_>>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(weights, i64),
        name!(parameters, i64),
        name!(raw_bytes, i64),
        name!(new_chunks, i64),
        name!(new_bytes, i64),
        name!(reused_bytes, i64),
    ),
> {
    or_raise((|| {
        let model = new_model(name, version, config.as_ref(), parent, metadata.as_ref())?;
        let weights = required(weights, "weights")?;
        let mut source = named(required(weight_names, "weight_names")?, &weights)?;
        let file = FileIn::of_tensors(DEFAULT_FILE_NAME, &mut source);
        row(import_file(&Store::current()?, &model, file)?)
    })())
}
