//! Statements on a store's tables: `@store@` in a statement is replaced by the schema.

use crate::error::Result;
use crate::pg::query::{self, Row, select, select_by_cursor, select_in_order, select_rows};
use crate::store::Store;
use pgrx::datum::DatumWithOid;

impl Store {
    /// Runs a query and calls `each` with each row.
    pub fn query(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.hold(template)?;
        select(self.snapshot(), &self.sql(template), arguments, each)
    }

    /// Runs a query through a cursor, for results that do not fit in memory; without parameters.
    pub fn query_by_cursor(
        &self,
        template: &str,
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.hold(template)?;
        select_by_cursor(self.snapshot(), &self.sql(template), each)
    }

    /// Runs a query and sorts the few rows in memory, which is cheaper than a sort node in the plan.
    pub fn query_in_order<K: Ord>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        key: impl Fn(&Row<'_>) -> Result<K>,
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.hold(template)?;
        select_in_order(self.snapshot(), &self.sql(template), arguments, key, each)
    }

    /// Runs a query and converts each row to a value.
    pub fn rows<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.hold(template)?;
        select_rows(self.snapshot(), &self.sql(template), arguments, make)
    }

    /// Returns the only row of a query, or `None`.
    pub fn row<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.rows(template, arguments, make)?.pop())
    }

    /// Runs a statement that writes and converts each returned row to a value.
    pub fn write<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.hold(template)?;
        query::write(&self.sql(template), arguments, make)
    }

    /// Runs an INSERT of several rows of which some may be there, and converts each row that it returns to a value. The rows
    /// are counted as they come: of such an INSERT into a distributed table, Citus reports those that were not inserted, too.
    pub fn insert<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let template = format!("WITH inserted AS ({template}) SELECT * FROM inserted");
        self.write(&template, arguments, make)
    }

    /// Runs a statement that writes and returns the number of affected rows.
    pub fn execute(&self, template: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize> {
        self.hold(template)?;
        query::execute(&self.sql(template), arguments)
    }

    /// Runs a statement that writes to this store what it reads, as `@from@`, from another, and returns the number of
    /// affected rows.
    pub fn execute_from(
        &self,
        from: &Store,
        template: &str,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<usize> {
        // A store's name may look like a placeholder.
        let own: Vec<String> = template
            .split("@from@")
            .map(|part| self.sql(part))
            .collect();
        from.hold(&template.replace("@from@", "@store@"))?;
        self.hold(template)?;
        query::execute(&own.join(&from.quoted), arguments)
    }
}
