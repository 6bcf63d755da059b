//! The plan of gradient checkpoints of a run, as JSON.

use crate::error::Result;
use crate::pg::arguments::uuid;
use crate::store::Store;
use serde_json::{Value, json};
use uuid::Uuid;

/// Returns the rows of a plan; `None` without one. All digits are there, whatever `extra_float_digits` is.
pub fn plan(store: &Store, run: Uuid) -> Result<Option<String>> {
    let rows = store.rows(
        "SELECT layer_index, policy, segment, kept_bytes, recompute_flops FROM @store@.gradient_checkpoints
         WHERE session_id = $1 ORDER BY layer_index",
        &[uuid(run)],
        |row| {
            Ok(json!({
                "layer_index": row.get::<i32>(1)?,
                "policy": row.get::<String>(2)?,
                "segment": row.get::<i32>(3)?,
                "kept_bytes": row.get::<i64>(4)?,
                "recompute_flops": figure(row.get(5)?),
            }))
        },
    )?;
    Ok((!rows.is_empty()).then(|| Value::from(rows).to_string()))
}

/// JSON has neither NaN nor infinities: PostgreSQL takes these as text.
pub fn figure(value: f64) -> Value {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => value.into(),
    }
}
