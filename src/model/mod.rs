//! Models: versions by name, aliases, lineage, parameter counts, and what a model or a checkpoint consists of.

pub mod aliases;
pub mod architecture;
pub mod arguments;
pub mod change;
pub mod content_hash;
pub mod delete;
pub mod evaluations;
pub mod files;
pub mod lineage;
pub mod list;
pub mod models;
pub mod parameters;
pub mod regmodel;
pub mod search;
pub mod state_dict;

use crate::store::module::Module;

/// Every store has it.
pub const MODULE: Module = Module {
    is_core: true,
    holds: &[("models", "models")],
    dependents_of_models: &[(
        delete::ORPHANS,
        "SELECT count(*) FROM @store@.models WHERE parent_model_id = $1",
    )],
    contradictions: &[
        "SELECT 'model ' || a.model_id, NULL::bytea, format('alias %I of model %I names a version of model %I', a.alias, a.model_name, m.model_name)
         FROM @store@.model_aliases a JOIN @store@.models m USING (model_id)
         WHERE a.model_name <> m.model_name",
    ],
    ..Module::new(
        "models",
        concat!(
            include_str!("../../sql/store/00_store.sql"),
            include_str!("../../sql/store/01_core_tables.sql")
        ),
    )
};
