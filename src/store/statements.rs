//! Statements on a store's tables: `@store@` in a statement stands for the schema.

use crate::error::Result;
use crate::pg::query::{self, Row, select, select_by_cursor, select_in_order, select_rows};
use crate::store::Store;
use pgrx::datum::DatumWithOid;

impl Store {
    /// Runs a query and hands each row to `each`.
    pub fn query(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.hold(template)?;
        select(self.snapshot(), &self.sql(template), arguments, each)
    }

    /// The same for results that would not fit in memory; without parameters.
    pub fn query_by_cursor(
        &self,
        template: &str,
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        self.hold(template)?;
        select_by_cursor(self.snapshot(), &self.sql(template), each)
    }

    /// The same in the order of a key, for the few rows that are cheaper to sort here than by a node of the plan.
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

    /// The rows of a query, each made into a value.
    pub fn rows<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.hold(template)?;
        select_rows(self.snapshot(), &self.sql(template), arguments, make)
    }

    /// The only row of a query, or `None`.
    pub fn row<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.rows(template, arguments, make)?.pop())
    }

    /// Runs a statement that writes and makes a value of each row it returns.
    pub fn write<T>(
        &self,
        template: &str,
        arguments: &[DatumWithOid<'_>],
        make: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.hold(template)?;
        query::write(&self.sql(template), arguments, make)
    }

    /// Runs a statement that writes and returns how many rows it touched.
    pub fn execute(&self, template: &str, arguments: &[DatumWithOid<'_>]) -> Result<usize> {
        self.hold(template)?;
        query::execute(&self.sql(template), arguments)
    }
}
