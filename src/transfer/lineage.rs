//! The parent of a model that comes from elsewhere: the model of the same weights, if the store has one.

use crate::error::Result;
use crate::model::lineage;
use crate::pg::arguments::{bytes, from_sql_uuid, text, uuid};
use crate::store::Store;
use modelstore_archive::Ancestor;
use pgrx::datum::Uuid as SqlUuid;
use uuid::Uuid;

/// Key under which metadata keep the ancestors of a model whose parent the store does not have.
pub const KEY: &str = "lineage";

/// Returns the ancestors of a model, its parent first.
pub fn ancestors(store: &Store, model: Uuid) -> Result<Vec<Ancestor>> {
    let line = lineage::ancestors(store, model)?.into_iter().skip(1);
    let described = line.map(|of| Ancestor {
        name: of.name,
        version: of.version,
        content_hash: of.content_hash,
        derivation: of.derivation,
    });
    Ok(described.collect())
}

/// Returns the model that has the weights of the first ancestor, the one of the same name and version if there are several.
pub fn parent(store: &Store, ancestors: &[Ancestor]) -> Result<Option<Uuid>> {
    let Some(parent) = ancestors.first() else {
        return Ok(None);
    };
    let hash = parent.content_hash.as_deref().and_then(from_hex);
    let Some(hash) = hash else { return Ok(None) };
    let found = store.row(
        "SELECT model_id FROM @store@.models WHERE content_hash = $1
         ORDER BY model_name = $2 AND version = $3 DESC, model_name = $2 DESC, created_at, model_id LIMIT 1",
        &[bytes(&hash), text(&parent.name), text(&parent.version)],
        |row| row.get::<SqlUuid>(1),
    )?;
    Ok(found.map(from_sql_uuid))
}

/// Keeps the ancestors of a model whose parent the store does not have in its metadata, unless these are no object or have
/// such a key.
pub fn remember(store: &Store, model: Uuid, ancestors: &[Ancestor]) -> Result<()> {
    if ancestors.is_empty() {
        return Ok(());
    }
    let line = serde_json::to_value(ancestors).unwrap_or_default();
    store.execute(
        "UPDATE @store@.models SET metadata = coalesce(metadata, '{}') || jsonb_build_object($2, $3)
         WHERE model_id = $1 AND parent_model_id IS NULL
           AND jsonb_typeof(coalesce(metadata, '{}')) = 'object' AND NOT coalesce(metadata, '{}') ? $2",
        &[uuid(model), text(KEY), pgrx::JsonB(line).into()],
    )?;
    Ok(())
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text)
        .ok()
        .map(|hash| *hash.as_bytes())
}
