//! Reads from the DDL of a module what it creates, so that there is no second list of tables.

use crate::store::module::{self, Module};
use std::sync::LazyLock;

/// A table.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Names and types of its columns, as in the DDL.
    pub columns: Vec<(&'static str, String)>,
    /// Whether it is partitioned.
    pub is_partitioned: bool,
}

/// The relations of a module, in the order of its DDL.
#[derive(Default)]
pub struct Relations {
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its views.
    pub views: Vec<&'static str>,
    /// Its materialized views.
    pub materialized_views: Vec<&'static str>,
}

static ALL: LazyLock<Vec<Relations>> =
    LazyLock::new(|| module::all().iter().map(|m| parse(m.ddl)).collect());

/// Returns each module with its relations.
pub fn modules() -> impl DoubleEndedIterator<Item = (&'static Module, &'static Relations)> {
    module::all().iter().copied().zip(ALL.iter())
}

/// Parses the DDL. Each column is on its own line, followed by its type.
fn parse(ddl: &'static str) -> Relations {
    let mut found = Relations::default();
    let mut inside = false;
    for line in ddl.lines() {
        if let Some(rest) = line.strip_prefix("CREATE TABLE @store@.")
            && let Some(name) = rest.strip_suffix(" (")
        {
            found.tables.push(Table {
                name,
                columns: Vec::new(),
                is_partitioned: false,
            });
            inside = true;
        } else if let Some(name) = created(line, "CREATE VIEW @store@.") {
            found.views.push(name);
        } else if let Some(name) = created(line, "CREATE MATERIALIZED VIEW @store@.") {
            found.materialized_views.push(name);
        } else if let Some(table) = found.tables.last_mut()
            && inside
        {
            if let Some(rest) = line.strip_prefix(')') {
                table.is_partitioned = rest.trim_start().starts_with("PARTITION BY");
                inside = false;
            } else if let Some(column) = column(line) {
                table.columns.push(column);
            }
        }
    }
    found
}

fn created(line: &'static str, what: &str) -> Option<&'static str> {
    line.strip_prefix(what)?.split(' ').next()
}

/// Returns name and type of a column; `None` for constraints and comments.
fn column(line: &'static str) -> Option<(&'static str, String)> {
    let is_word = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let mut words = line.trim().trim_end_matches(',').split_ascii_whitespace();
    let name = words.next().filter(is_word)?;
    let of_type: Vec<&str> = words.take_while(is_word).collect();
    Some((name, of_type.join(" ")))
}
