//! Reads ranges of a B-tree of a partitioned table without a statement.
//!
//! A nearest-neighbour search reads some twenty short ranges, and planning and running a scan for each costs several
//! times the B-tree lookup. So they are read as the executor's index-only scan does it: with the caller's snapshot, the
//! visibility map, and the row itself where the map does not say that everybody sees it. Permissions, row-level
//! security and SSI are not handled here: [`PartitionedIndex::open`] returns `None` when they apply.
#![allow(unsafe_code)]

use crate::error::Result;
use crate::pg::extension;
use pgrx::pg_sys::{self, Relation};
use std::ffi::{CStr, CString};

/// The lock of a reader, held until the transaction ends.
const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as _;
const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as _;
/// Wider from PostgreSQL 16 on.
const SELECT: pg_sys::AclMode = pg_sys::ACL_SELECT as _;

/// An index of a partitioned table: a bigint key, and `N` included bigints.
pub struct PartitionedIndex<const N: usize> {
    index: Open,
    partitions: Vec<pg_sys::Oid>,
    scans: Vec<Option<PartitionScan<N>>>,
}

/// Direction of a scan.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// In ascending order of keys.
    Forward,
    /// In descending order of keys.
    Backward,
}

impl<const N: usize> PartitionedIndex<N> {
    /// Opens an index of a table in a schema. Returns `None` where only a statement decides what may be read: row-level
    /// security, column privileges, a serializable transaction, an index that was dropped.
    pub fn open(schema: &str, table: pg_sys::Oid, index: pg_sys::Oid) -> Result<Option<Self>> {
        let Ok(schema) = CString::new(schema) else {
            return Ok(None);
        };
        // SAFETY: main thread, inside a transaction; a nul-terminated name. It raises 42501 without USAGE of the schema.
        unsafe { pg_sys::LookupExplicitNamespace(schema.as_ptr(), false) };
        if table == pg_sys::InvalidOid || index == pg_sys::InvalidOid || !is_readable(table) {
            return Ok(None);
        }
        let partitions = partitions_of(table);
        let index = Open::index(index);
        if !index.is_usable() || !index.is_over_places::<N>() {
            return Ok(None);
        }
        let scans = partitions.iter().map(|_| None).collect();
        Ok(Some(PartitionedIndex {
            index,
            partitions,
            scans,
        }))
    }

    /// Returns the index of a partition, numbered in the order of the bounds; `None` if the partition has no such
    /// index.
    pub fn partition(&mut self, number: usize) -> Option<&mut PartitionScan<N>> {
        let scan = self.scans.get_mut(number)?;
        if scan.is_none() {
            *scan = PartitionScan::open(self.partitions[number], &self.index);
        }
        scan.as_mut()
    }
}

/// Returns whether the current role may read the whole table, and no serializable transaction has to record the read.
fn is_readable(table: pg_sys::Oid) -> bool {
    // SAFETY: main thread, inside a transaction; session settings and lookups in the catalog caches. None of them
    // raises: noError is set.
    unsafe {
        let role = pg_sys::GetUserId();
        let granted = pg_sys::pg_class_aclcheck(table, role, SELECT);
        granted == pg_sys::AclResult::ACLCHECK_OK
            && pg_sys::check_enable_rls(table, role, true)
                != pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
            && pg_sys::XactIsoLevel != pg_sys::XACT_SERIALIZABLE as i32
            && pg_sys::ActiveSnapshotSet()
    }
}

/// Returns the partitions of a table in the order of their bounds.
fn partitions_of(table: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let table = Open::table(table);
    // SAFETY: the table is open, so its cached description stays in place until it is copied.
    unsafe {
        if (*(*table.0).rd_rel).relkind != pg_sys::RELKIND_PARTITIONED_TABLE as std::ffi::c_char {
            return Vec::new();
        }
        let partitions = pg_sys::RelationGetPartitionDesc(table.0, true);
        match usize::try_from((*partitions).nparts) {
            Ok(0) | Err(_) => Vec::new(),
            Ok(count) => std::slice::from_raw_parts((*partitions).oids, count).to_vec(),
        }
    }
}

/// Returns the bounds of a table's partitions, one more than there are partitions. They must be ranges of one bigint
/// column of this name, without gaps and without a default partition; for any other table returns an empty list.
pub fn bounds_of(table: pg_sys::Oid, column: &CStr) -> Vec<i64> {
    if table == pg_sys::InvalidOid {
        return Vec::new();
    }
    let table = Open::table(table);
    // SAFETY: main thread. An open partitioned table has a partition descriptor. Range bounds have one array of datums
    // and one of kinds per bound, with as many entries as the key has columns, which is one, and one index more than
    // bounds. A bigint is passed by value; for another type nothing is dereferenced.
    unsafe {
        if (*(*table.0).rd_rel).relkind != pg_sys::RELKIND_PARTITIONED_TABLE as std::ffi::c_char {
            return Vec::new();
        }
        let key = pg_sys::pg_get_partkeydef_columns((*table.0).rd_id, false);
        let partitions = &*pg_sys::RelationGetPartitionDesc(table.0, true);
        if key.is_null() || CStr::from_ptr(key) != column || partitions.boundinfo.is_null() {
            return Vec::new();
        }
        let bounds = &*partitions.boundinfo;
        if bounds.strategy as u8 != b'r' || bounds.default_index != -1 {
            return Vec::new();
        }
        let (count, bounded) = (bounds.ndatums, partitions.nparts + 1);
        if count != bounded || bounds.nindexes != count + 1 {
            return Vec::new();
        }
        let count = usize::try_from(count).unwrap_or(0);
        let indexes = std::slice::from_raw_parts(bounds.indexes, count + 1);
        let values = std::slice::from_raw_parts(bounds.datums, count);
        let kinds = std::slice::from_raw_parts(bounds.kind, count);
        let is_value = |kind: &*mut pg_sys::PartitionRangeDatumKind::Type| {
            **kind == pg_sys::PartitionRangeDatumKind::PARTITION_RANGE_DATUM_VALUE
        };
        // No partition lies below the first bound; the others end at each bound, in order.
        let in_order = (-1..).take(count).eq(indexes[..count].iter().copied());
        match in_order && kinds.iter().all(is_value) {
            true => values
                .iter()
                .map(|value| (**value).value() as i64)
                .collect(),
            false => Vec::new(),
        }
    }
}

/// An open relation, locked until the transaction ends.
struct Open(Relation);

impl Open {
    fn table(oid: pg_sys::Oid) -> Open {
        // SAFETY: main thread, inside a transaction. Raises if there is no such table.
        Open(unsafe { pg_sys::relation_open(oid, LOCK) })
    }

    fn index(oid: pg_sys::Oid) -> Open {
        // SAFETY: as above.
        Open(unsafe { pg_sys::index_open(oid, LOCK) })
    }

    /// Returns whether a snapshot of this transaction may use the index. The index may lack older versions of rows that
    /// were being updated while it was built; as the planner does, skip it until no snapshot is that old.
    fn is_usable(&self) -> bool {
        // SAFETY: an open index has its row of pg_index, and the tuple that contains it.
        unsafe {
            let row = &*(*self.0).rd_index;
            let tuple = (*(*self.0).rd_indextuple).t_data;
            let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
            let made = (*tuple).t_choice.t_heap.t_xmin;
            row.indisvalid
                && (!row.indcheckxmin
                    || (*tuple).t_infomask & frozen == frozen
                    || pg_sys::TransactionIdPrecedes(made, pg_sys::TransactionXmin))
        }
    }

    /// Returns whether it is a B-tree without a predicate, with one ascending bigint key, this extension's
    /// `atom_place`, and N included bigints. [`PartitionScan::read`] relies on this layout.
    fn is_over_places<const N: usize>(&self) -> bool {
        // SAFETY: an open index has its rows of pg_class and pg_index, a tuple descriptor, and as many operator
        // families, types and options as keys. The expressions are nodes owned by the relation.
        unsafe {
            let (relation, row) = (&*self.0, &*(*self.0).rd_index);
            let columns = pgrx::PgTupleDesc::from_pg_copy(relation.rd_att);
            let is_plain_btree = (*relation.rd_rel).relam == pg_sys::BTREE_AM_OID
                && row.indnkeyatts == 1
                && *relation.rd_opfamily == pg_sys::INTEGER_BTREE_FAM_OID
                && *relation.rd_opcintype == pg_sys::INT8OID
                && *relation.rd_indoption == 0;
            is_plain_btree
                && columns.len() == N + 1
                && columns
                    .iter()
                    .all(|c| c.atttypid == pg_sys::INT8OID && c.attbyval && c.attlen == 8)
                && pg_sys::RelationGetIndexPredicate(self.0).is_null()
                && self.expression_is_place()
        }
    }

    /// Returns whether the only expression of an index is a call of this extension's `atom_place`.
    ///
    /// # Safety
    /// The relation is an open index.
    unsafe fn expression_is_place(&self) -> bool {
        // SAFETY: the list is a copy that the current memory context owns; the tag of a node says which kind it is.
        unsafe {
            let list = pg_sys::RelationGetIndexExpressions(self.0);
            let expressions = pgrx::PgList::<pg_sys::Node>::from_pg(list);
            let Some(node) = expressions.get_ptr(0).filter(|_| expressions.len() == 1) else {
                return false;
            };
            if (*node).type_ != pg_sys::NodeTag::T_FuncExpr {
                return false;
            }
            let function = (*node.cast::<pg_sys::FuncExpr>()).funcid;
            let name = pg_sys::get_func_name(function);
            !name.is_null()
                && CStr::from_ptr(name) == c"atom_place"
                && extension::has_member(pg_sys::ProcedureRelationId, function)
        }
    }

    /// Returns whether this index has the same definition as another: the same key and included columns, of all rows.
    fn is_like(&self, other: &Open) -> bool {
        // SAFETY: both are open indexes with one key column; lists of expressions are compared by their nodes, and may
        // be null.
        unsafe {
            let columns = |index: Relation| {
                let row = (*index).rd_index;
                let count = (*row).indnatts.max(0) as usize;
                ((*row).indnkeyatts, (*row).indkey.values.as_slice(count))
            };
            columns(self.0) == columns(other.0)
                && self.names_of_columns() == other.names_of_columns()
                && pg_sys::equal(
                    pg_sys::RelationGetIndexExpressions(self.0).cast(),
                    pg_sys::RelationGetIndexExpressions(other.0).cast(),
                )
        }
    }
}

impl Open {
    /// Returns the names of the index's columns in its table; column numbers may differ between partitions.
    fn names_of_columns(&self) -> Vec<Option<CString>> {
        // SAFETY: an open index has its row of pg_index; the names are palloc'd, or null if there is no such column.
        unsafe {
            let row = &*(*self.0).rd_index;
            let columns = row.indkey.values.as_slice(row.indnatts.max(0) as usize);
            columns
                .iter()
                .map(|&column| {
                    let name = pg_sys::get_attname(row.indrelid, column, true);
                    (!name.is_null()).then(|| CStr::from_ptr(name).to_owned())
                })
                .collect()
        }
    }

    /// Returns whether it is an ordinary heap table. Any other partition, such as a foreign table, is left to
    /// statements.
    fn is_heap(&self) -> bool {
        // SAFETY: an open relation has its row of pg_class.
        let row = unsafe { &*(*self.0).rd_rel };
        row.relkind as u8 == pg_sys::RELKIND_RELATION
            && row.relam == pg_sys::HEAP_TABLE_AM_OID
            && row.relpersistence as u8 != pg_sys::RELPERSISTENCE_TEMP
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // What an error leaves open, the end of the transaction closes.
        if !std::thread::panicking() {
            // SAFETY: opened by us and not closed before. Tables and indexes are closed alike.
            unsafe { pg_sys::relation_close(self.0, NO_LOCK) }
        }
    }
}

/// A scan of one partition's index, restarted for each range.
pub struct PartitionScan<const N: usize> {
    scan: pg_sys::IndexScanDesc,
    /// Holds the row when the visibility map was not enough.
    slot: *mut pg_sys::TupleTableSlot,
    /// The page of the visibility map read last.
    visibility: pg_sys::Buffer,
    /// Closed after the scan: fields are dropped after `drop` has run.
    _index: Open,
    table: Open,
}

impl<const N: usize> PartitionScan<N> {
    fn open(partition: pg_sys::Oid, like: &Open) -> Option<PartitionScan<N>> {
        let table = Open::table(partition);
        if !table.is_heap() {
            return None;
        }
        // SAFETY: the table is open; the list is a copy, of OIDs.
        let indexes = unsafe {
            let list = pg_sys::RelationGetIndexList(table.0);
            let oids: Vec<_> = pgrx::PgList::<pg_sys::Oid>::from_pg(list)
                .iter_oid()
                .collect();
            pg_sys::list_free(list);
            oids
        };
        let same =
            |index: &Open| index.is_usable() && index.is_over_places::<N>() && index.is_like(like);
        let index = indexes.into_iter().map(Open::index).find(same)?;
        // SAFETY: both relations are open and stay open as long as the scan; the snapshot is that of the caller's
        // statement.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(table.0, index.0, snapshot, 2, 0);
            #[cfg(feature = "pg18")]
            let scan =
                pg_sys::index_beginscan(table.0, index.0, snapshot, std::ptr::null_mut(), 2, 0);
            (*scan).xs_want_itup = true;
            Some(PartitionScan {
                scan,
                slot: pg_sys::table_slot_create(table.0, std::ptr::null_mut()),
                visibility: pg_sys::InvalidBuffer as _,
                _index: index,
                table,
            })
        }
    }

    /// Calls `each` with the included columns of every row that the caller's snapshot sees and whose key is in
    /// `first..=last`, until it returns false.
    pub fn read(
        &mut self,
        (first, last): (i64, i64),
        direction: Direction,
        mut each: impl FnMut([i64; N]) -> Result<bool>,
    ) -> Result<()> {
        let direction = match direction {
            Direction::Forward => pg_sys::ScanDirection::ForwardScanDirection,
            Direction::Backward => pg_sys::ScanDirection::BackwardScanDirection,
        };
        let mut values = [pg_sys::Datum::null(); 8];
        let mut nulls = [false; 8];
        // SAFETY: main thread. The scan was begun with two keys, which it copies. The returned tuple is read before the
        // scan continues; it has N + 1 bigint columns, fewer than eight, as `is_over_places` checked.
        unsafe {
            let mut keys = [pg_sys::ScanKeyData::default(); 2];
            let bounds = [
                (
                    pg_sys::BTGreaterEqualStrategyNumber,
                    pg_sys::F_INT8GE,
                    first,
                ),
                (pg_sys::BTLessEqualStrategyNumber, pg_sys::F_INT8LE, last),
            ];
            for (key, (strategy, function, bound)) in keys.iter_mut().zip(bounds) {
                pg_sys::ScanKeyInit(key, 1, strategy as _, function.into(), bound.into());
            }
            pg_sys::index_rescan(self.scan, keys.as_mut_ptr(), 2, std::ptr::null_mut(), 0);
            loop {
                let row = pg_sys::index_getnext_tid(self.scan, direction);
                if row.is_null() {
                    return Ok(());
                }
                let block = pgrx::itemptr::item_pointer_get_block_number(row);
                let seen =
                    pg_sys::visibilitymap_get_status(self.table.0, block, &mut self.visibility);
                if u32::from(seen) & pg_sys::VISIBILITYMAP_ALL_VISIBLE == 0
                    && !pg_sys::index_fetch_heap(self.scan, self.slot)
                {
                    continue;
                }
                let (tuple, columns) = ((*self.scan).xs_itup, (*self.scan).xs_itupdesc);
                pg_sys::index_deform_tuple(tuple, columns, values.as_mut_ptr(), nulls.as_mut_ptr());
                if nulls[..=N].contains(&true) {
                    continue;
                }
                if !each(std::array::from_fn(|n| values[n + 1].value() as i64))? {
                    return Ok(());
                }
            }
        }
    }
}

impl<const N: usize> Drop for PartitionScan<N> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: each was made by `open` and is released once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            if self.visibility != pg_sys::InvalidBuffer as pg_sys::Buffer {
                pg_sys::ReleaseBuffer(self.visibility);
            }
            pg_sys::index_endscan(self.scan);
        }
    }
}
