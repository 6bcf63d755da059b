//! `config.json`: a file of a model, and its config.

use crate::error::{Code, Failure, Result};
use crate::io::Source;
use crate::pg::arguments::{text, uuid};
use crate::store::Store;
use modelstore_formats::config_json::{Defect, strict};
use uuid::Uuid;

/// The file with the config, in the folder of the model itself.
pub const CONFIG_FILE: &str = "config.json";

/// Far above any real config.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// The text of a JSON object that jsonb accepts.
pub struct Config(String);

impl Config {
    /// Reads and checks a config.
    pub fn read(source: &mut dyn Source) -> Result<Config> {
        if source.len() > MAX_CONFIG_BYTES {
            return Err(Failure::new(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "file \"{CONFIG_FILE}\" of {} bytes is too large",
                    source.len()
                ),
            )
            .detail(format!("It has at most {MAX_CONFIG_BYTES} bytes."))
            .hint(HINT));
        }
        let mut bytes = Vec::new();
        source.read_at(0, source.len() as usize, &mut bytes)?;
        let reason = |e: &dyn std::fmt::Display| invalid(&format!("The JSON parser says: {e}."));
        let text = str::from_utf8(&bytes).map_err(|e| reason(&e))?;
        strict(text).map(Config).map_err(|defect| match defect {
            Defect::Syntax(e) => reason(&e),
            Defect::NoObject => invalid("It contains JSON that is not an object."),
            Defect::Nul => invalid("It contains the character U+0000, which jsonb cannot store."),
        })
    }

    /// Makes it the config of a model; returns whether the model had none. Another one is never replaced.
    pub fn set(&self, store: &Store, model: Uuid) -> Result<bool> {
        let arguments = || [uuid(model), text(&self.0)];
        let set = store.execute(
            "UPDATE @store@.models SET config = $2::jsonb WHERE model_id = $1 AND config IS NULL",
            &arguments(),
        )?;
        if set == 1 {
            return Ok(true);
        }
        let differs = store.row(
            "SELECT (SELECT string_agg(quote_ident(key), ', ' ORDER BY key COLLATE \"C\")
                     FROM jsonb_each(CASE jsonb_typeof(m.config) WHEN 'object' THEN m.config ELSE '{}' END) a
                     FULL JOIN jsonb_each($2::jsonb) b USING (key)
                     WHERE a.value IS DISTINCT FROM b.value)
             FROM @store@.models m WHERE m.model_id = $1 AND m.config IS DISTINCT FROM $2::jsonb",
            &arguments(),
            |row| row.opt::<String>(1),
        )?;
        let Some(keys) = differs else {
            return Ok(false);
        };
        let keys: String = keys
            .unwrap_or_else(|| "all".to_owned())
            .chars()
            .take(200)
            .collect();
        Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("model {model} already has a different config"),
        )
        .detail(format!("They differ in: {keys}."))
        .hint(store.sql(&format!(
            "UPDATE @store@.models SET config = NULL WHERE model_id = '{model}';"
        ))))
    }
}

const HINT: &str = "SELECT * FROM modelstore.add_file(model, 'original/config.json', data);"; // as a file only

/// Returns the error for a config that is none.
pub fn invalid(detail: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_INVALID_JSON_TEXT,
        format!("file \"{CONFIG_FILE}\" is not valid JSON"),
    )
    .detail(detail)
    .hint(HINT)
}
