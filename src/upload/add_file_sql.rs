//! A complete upload becomes a file of a model.

use crate::error::{or_raise, required};
use crate::formats::folder::add::{Sniffed, add};
use crate::formats::folder::other_form;
use crate::formats::safetensors::import_sql::row;
use crate::formats::safetensors::shards::lock;
use crate::model::arguments::Regmodel;
use crate::pg::arguments::from_sql_uuid;
use crate::store::Store;
use crate::upload::finish::{Received, consume};
use crate::upload::rewound::Rewound;
use pgrx::datum::Uuid as SqlUuid;
use pgrx::prelude::*;

#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn add_file_upload(
    model: Option<Regmodel>,
    file_name: Option<&str>,
    upload_id: Option<SqlUuid>,
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
        let upload = from_sql_uuid(required(upload_id, "upload_id")?);
        consume(upload, |received, _| {
            let model = required(model, "model")?.0;
            let name = required(file_name, "file_name")?;
            let store = Store::current()?;
            lock(&store, model)?;
            let (mut waiting, mut rewound);
            let file = match received {
                // Its chunks are those of weights, and it is to be none.
                Received::Stored(body)
                    if other_form::of_model(&store, model, name, &body.header)?.is_some() =>
                {
                    rewound = Rewound::new(store.clone(), body);
                    Sniffed::open(name, &mut rewound)?
                }
                Received::Stored(body) => Sniffed::stored(name, body)?,
                Received::Other(bytes) => {
                    waiting = bytes;
                    Sniffed::open(name, &mut waiting)?
                }
            };
            row(add(&store, model, file)?)
        })
    })())
}
