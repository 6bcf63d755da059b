//! Modules: what a store is made of. The rest of the code learns of a module from its descriptor alone.

use crate::error::{Code, Failure, Result};
use crate::store::names::shown;
use std::sync::OnceLock;

/// A module of a store.
pub struct Module {
    /// As `create_store` and `add_module` take it.
    pub name: &'static str,
    /// Whether every store has it.
    pub is_core: bool,
    /// Its tables, views, indexes and comments (`sql/store/NN_name.sql`). `@store@` stands for the schema.
    pub ddl: &'static str,
    /// Its partitions, where their number is a choice.
    pub partitions: Option<Partitions>,
    /// Views that other functions add, and that go with the module.
    pub optional_views: &'static [&'static str],
    /// DDL that upgrades its tables, each with the version of the store it leads to, in ascending order.
    pub upgrades: &'static [(i32, &'static str)],
    /// Tables with data of users: what `drop_store` calls their rows, and the table.
    pub holds: &'static [(&'static str, &'static str)],
    /// Queries of `verify_store`: the object (text), a chunk (bytea or NULL) and the problem (text) of rows that contradict
    /// others.
    pub contradictions: &'static [&'static str],
    /// What depends on a model besides its weights and files, and goes or changes with it: what `delete_model` calls the rows, and
    /// a query of their number. `$1` is the model.
    pub dependents_of_models: &'static [(&'static str, &'static str)],
    /// Queries of `space_report`: a model, whether a checkpoint of it is meant (boolean), and a tensor that it uses.
    pub tensors_of_models: &'static [&'static str],
}

impl Module {
    /// The name of a constraint that each table of an opt-in module has. By it a store tells its tables from others of their names.
    pub fn mark(&self) -> String {
        format!("modelstore_{}", self.name)
    }

    /// A module without any of the optional fields.
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
    /// The numbers to choose from.
    pub choices: &'static [i32],
    /// How many there are unless something else is asked for.
    pub default: i32,
    /// The DDL of so many.
    pub ddl: fn(i32) -> String,
}

static ALL: OnceLock<&'static [&'static Module]> = OnceLock::new();

/// Sets the modules of this library, in the order in which they are made. Called once, when the library is loaded.
pub fn register(modules: &'static [&'static Module]) {
    ALL.get_or_init(|| modules);
}

/// All modules, in the order in which they are made.
pub fn all() -> &'static [&'static Module] {
    ALL.get().copied().unwrap_or_default()
}

/// The module of a name; 22023 when there is none.
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

/// Some of the modules, by their place among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(u64);

impl Set {
    /// Adds a module.
    pub fn insert(&mut self, module: &Module) {
        self.0 |= Self::bit(module);
    }

    /// Whether all of another set are in this one.
    pub fn includes(self, other: Set) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a module is one of them.
    pub fn contains(self, module: &Module) -> bool {
        self.0 & Self::bit(module) != 0
    }

    /// The modules, in the order in which they are made.
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
