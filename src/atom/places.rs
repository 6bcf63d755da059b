//! Reads atoms by their places, one partition at a time.
//!
//! The index on places is read directly if the role may read the whole table, which takes a fraction of the time.
//! Otherwise statements are used, so that PostgreSQL enforces policies and privileges. They name the range of their
//! partition, so that the planner reads only that one.

use crate::atom::statement::{in_codes, key_in};
use crate::error::{Failure, Result};
use crate::pg::index_scan::{Direction, PartitionScan, PartitionedIndex, bounds_of};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_atom::spatial::{PlaceRange, Places};
use modelstore_atom::{Key, Modality, Partitions};
use std::cell::Cell;
use std::rc::Rc;

/// The atoms of a store as visible to the current statement.
pub struct StoredPlaces {
    store: Store,
    partitions: Partitions,
    /// h_xy, h_yz and h_zm by place.
    index: Option<PartitionedIndex<3>>,
    /// Rows that searches have read.
    read: Rc<Cell<u64>>,
}

impl StoredPlaces {
    /// Opens the atoms of a store.
    pub fn open(store: &Store) -> Result<StoredPlaces> {
        let atoms = store.relation_oid("atoms");
        let known = Partitions::between(&bounds_of(atoms, c"h_xy"));
        let index = match known {
            // The indexes of a distributed table are on another node.
            Some(_) if !store.is_distributed() => {
                PartitionedIndex::open(store.name(), atoms, store.relation_oid("atoms_place_idx"))?
            }
            // Or the table was partitioned in another way: leave the partitions to the planner.
            _ => None,
        };
        Ok(StoredPlaces {
            store: store.clone(),
            partitions: known.unwrap_or(Partitions::FINEST),
            index,
            read: Rc::default(),
        })
    }

    /// Returns the number of rows that searches have read.
    pub fn rows_read(&self) -> u64 {
        self.read.get()
    }

    /// Calls `each` with all atoms, or those of a modality.
    pub fn all(
        &mut self,
        modality: Option<Modality>,
        mut each: impl FnMut(Key) -> Result<()>,
    ) -> Result<()> {
        for partition in self.partitions.of(modality) {
            if let Some(index) = self.index_of(partition) {
                index.read((i64::MIN, i64::MAX), Direction::Forward, |codes| {
                    pgrx::check_for_interrupts!();
                    each(Key::from_codes(codes)).map(|()| true)
                })?;
                continue;
            }
            let sql = in_codes(
                "SELECT h_xy, h_yz, h_zm FROM @store@.atoms WHERE h_xy >= @first@ AND h_xy < @end@",
                self.partitions.bounds(partition),
            );
            self.store
                .query_by_cursor(&sql, |row| each(key_in(row, 1)?))?;
        }
        Ok(())
    }

    fn index_of(&mut self, partition: u32) -> Option<&mut PartitionScan<3>> {
        self.index.as_mut()?.partition(partition as usize)
    }
}

impl Places for StoredPlaces {
    type Error = Failure;

    fn partitions(&self) -> Partitions {
        self.partitions
    }

    fn beside(
        &mut self,
        partition: u32,
        place: i64,
        count: usize,
        each: &mut dyn FnMut(Key) -> Result<()>,
    ) -> Result<()> {
        let read = Rc::clone(&self.read);
        let each = &mut |key| {
            read.set(read.get() + 1);
            each(key)
        };
        if let Some(index) = self.index_of(partition) {
            let sides = [
                ((place, i64::MAX), Direction::Forward),
                ((i64::MIN, place - 1), Direction::Backward),
            ];
            for (range, direction) in sides {
                let mut left = count;
                index.read(range, direction, |codes| {
                    each(Key::from_codes(codes))?;
                    left = left.saturating_sub(1);
                    Ok(left > 0)
                })?;
            }
            return Ok(());
        }
        let sql = in_codes(
            "(SELECT h_xy, h_yz, h_zm FROM @store@.atoms
              WHERE h_xy >= @first@ AND h_xy < @end@ AND modelstore.atom_place(h_xy, h_yz, h_zm) >= $1
              ORDER BY modelstore.atom_place(h_xy, h_yz, h_zm) LIMIT $2)
             UNION ALL
             (SELECT h_xy, h_yz, h_zm FROM @store@.atoms
              WHERE h_xy >= @first@ AND h_xy < @end@ AND modelstore.atom_place(h_xy, h_yz, h_zm) < $1
              ORDER BY modelstore.atom_place(h_xy, h_yz, h_zm) DESC LIMIT $2)",
            self.partitions.bounds(partition),
        );
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        self.store
            .query(&sql, &[place.into(), limit.into()], |row| {
                each(key_in(row, 1)?)
            })
    }

    fn in_ranges(
        &mut self,
        partition: u32,
        ranges: &[PlaceRange],
        limit: usize,
        each: &mut dyn FnMut(Key) -> Result<()>,
    ) -> Result<bool> {
        if ranges.is_empty() {
            return Ok(true);
        }
        let read = Rc::clone(&self.read);
        let mut left = limit;
        let each = &mut |key| {
            read.set(read.get() + 1);
            left = left.saturating_sub(1);
            each(key).map(|()| left > 0)
        };
        if let Some(index) = self.index_of(partition) {
            let mut goes_on = true;
            for range in ranges {
                let range = (range.first, range.last);
                index.read(range, Direction::Forward, |codes| {
                    goes_on = each(Key::from_codes(codes))?;
                    Ok(goes_on)
                })?;
                pgrx::check_for_interrupts!();
                if !goes_on {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let sql = in_codes(
            "SELECT a.h_xy, a.h_yz, a.h_zm FROM unnest($1, $2) AS r(first, last)
             CROSS JOIN LATERAL (
                 SELECT a.h_xy, a.h_yz, a.h_zm FROM @store@.atoms a
                 WHERE a.h_xy >= @first@ AND a.h_xy < @end@
                   AND modelstore.atom_place(a.h_xy, a.h_yz, a.h_zm) BETWEEN r.first AND r.last OFFSET 0) a
             LIMIT $3",
            self.partitions.bounds(partition),
        );
        let mut goes_on = true;
        // Free the parameters after each search: a call may make a million.
        in_scratch_memory(|| {
            let first: Vec<i64> = ranges.iter().map(|range| range.first).collect();
            let last: Vec<i64> = ranges.iter().map(|range| range.last).collect();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let arguments = [first.into(), last.into(), limit.into()];
            self.store.query(&sql, &arguments, |row| {
                goes_on = each(key_in(row, 1)?)?;
                Ok(())
            })
        })?;
        Ok(goes_on)
    }

    fn check(&self) -> Result<()> {
        pgrx::check_for_interrupts!();
        Ok(())
    }
}
