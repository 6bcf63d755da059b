//! Modules, the parts of a store. All other code knows a module only through its descriptor.

use crate::error::{Code, Failure, Result};
use crate::store::names::shown;
use std::sync::OnceLock;

/// A module of a store.
pub struct Module {
    /// Name for `create_store` and `add_module`.
    pub name: &'static str,
    /// Whether every store has it.
    pub is_core: bool,
    /// Its tables, views, indexes and comments (`sql/store/NN_name.sql`). `@store@` is replaced by the schema.
    pub ddl: &'static str,
    /// Its partitions, if their number can be chosen.
    pub partitions: Option<Partitions>,
    /// Views that other functions create; they are dropped with the module.
    pub optional_views: &'static [&'static str],
    /// DDL that upgrades its tables, each with the resulting version of the store, in ascending order.
    pub upgrades: &'static [(i32, &'static str)],
    /// Tables with user data: the name that `drop_store` uses for their rows, and the table.
    pub holds: &'static [(&'static str, &'static str)],
    /// Queries of `verify_store` for rows that contradict others: the object (text), a chunk (bytea or NULL) and the
    /// problem (text).
    pub contradictions: &'static [&'static str],
    /// What depends on a model besides its weights and files, and is deleted or changed with it: the name that
    /// `delete_model` uses for the rows, and a query of their number. `$1` is the model.
    pub dependents_of_models: &'static [(&'static str, &'static str)],
    /// Queries of `space_report`: a model, whether one of its checkpoints uses the tensor (boolean), and the tensor.
    pub tensors_of_models: &'static [&'static str],
}

impl Module {
    /// Returns the name of the constraint that marks each table of an opt-in module, and distinguishes it from a user's
    /// table of the same name.
    pub fn mark(&self) -> String {
        format!("modelstore_{}", self.name)
    }

    /// Creates a module without any of the optional fields.
    pub const fn new(name: &'static str, ddl: &'static str) -> Module {
        Module {
            name,
            is_core: false,
            ddl,
            partitions: None,
            optional_views: &[],
            upgrades: &[],
            holds: &[],
            contradictions: &[],
            dependents_of_models: &[],
            tensors_of_models: &[],
        }
    }
}

/// Partitions made by code.
pub struct Partitions {
    /// The numbers that can be chosen.
    pub choices: &'static [i32],
    /// The default number.
    pub default: i32,
    /// Returns the DDL of this many partitions.
    pub ddl: fn(i32) -> String,
}

static ALL: OnceLock<&'static [&'static Module]> = OnceLock::new();

/// Sets the modules of this library, in the order in which they are created. Called once, when the library is loaded.
pub fn register(modules: &'static [&'static Module]) {
    ALL.get_or_init(|| modules);
}

/// Returns all modules, in the order in which they are created.
pub fn all() -> &'static [&'static Module] {
    ALL.get().copied().unwrap_or_default()
}

/// Returns the module of a name; 22023 if there is none.
pub fn find(name: &str) -> Result<&'static Module> {
    all()
        .iter()
        .copied()
        .find(|module| module.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = all().iter().map(|module| module.name).collect();
            Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("module \"{}\" does not exist", shown(name)),
            )
            .detail(format!("Modules are {}.", names.join(", ")))
        })
}

/// A set of modules: a bit for each, by its index among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(u64);

impl Set {
    /// Adds a module.
    pub fn insert(&mut self, module: &Module) {
        self.0 |= Self::bit(module);
    }

    /// Returns whether it contains another set.
    pub fn includes(self, other: Set) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether it contains a module.
    pub fn contains(self, module: &Module) -> bool {
        self.0 & Self::bit(module) != 0
    }

    /// Returns the modules, in the order in which they are created.
    pub fn iter(self) -> impl Iterator<Item = &'static Module> {
        all()
            .iter()
            .copied()
            .filter(move |module| self.contains(module))
    }

    fn bit(module: &Module) -> u64 {
        all()
            .iter()
            .position(|other| other.name == module.name)
            .map_or(0, |place| 1 << place)
    }
}
