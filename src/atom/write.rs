//! Writes pending atoms: finds existing ones, inserts new ones, counts references.
//!
//! Rows are written in the order of keys and in a fixed order of tables, so that two runs that share contents cannot
//! deadlock. gc waits until no run is active: each run holds ROW EXCLUSIVE on the table of atoms, gc SHARE ROW
//! EXCLUSIVE.

use crate::atom::chunk_leaves::{self, ChunkLeaf};
use crate::atom::key::{MAX_PROBES, content_hash_of};
use crate::atom::part_rows;
use crate::atom::pending::{Pending, PendingContent};
use crate::atom::reference_counts::add_references;
use crate::atom::security::{Salt, own_salt};
use crate::atom::statement::{in_modality, key_in, keys};
use crate::error::{Code, Failure, Result};
use crate::io::Source;
use crate::pg::arguments::bytes_array;
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_atom::key::{m_of, salted};
use modelstore_atom::{Key, Modality, Point};

/// Rows per statement.
const BATCH: usize = 8192;

/// What happened to the distinct atoms of a run.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Inserted.
    pub created: i64,
    /// Existed and got another reference.
    pub updated: i64,
    /// Existed, as part of something that existed.
    pub skipped: i64,
}

/// The rows of a run.
pub struct Writer<'a> {
    store: &'a Store,
    modality: Modality,
    pending: &'a Pending,
    /// With row-level security, finds only atoms of the role: the other role could neither see a reference to its atoms
    /// nor rely on it.
    whose: &'static str,
    /// With row-level security, determines the places of the role's new atoms.
    salt: Option<Salt>,
    rows: Vec<Row>,
}

/// The place of a pending atom.
struct Row {
    key: Key,
    probe: u32,
    /// Whether the place is computed from the hash with the role's salt.
    is_salted: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not looked up at its current key.
    Unknown,
    /// No atom at its key.
    Absent,
    /// Inserted by this run.
    Created,
    /// Existed before.
    Found,
}

impl<'a> Writer<'a> {
    /// Prepares the contents of one run, all of one modality.
    pub fn new(store: &'a Store, modality: Modality, pending: &'a Pending) -> Result<Writer<'a>> {
        let mut rows = Vec::with_capacity(pending.atoms.len());
        for atom in &pending.atoms {
            rows.push(Row {
                key: key_of(modality, atom.xyz, m_of(&atom.hash, 0))?,
                probe: 0,
                is_salted: false,
                state: State::Unknown,
            });
        }
        let salt = own_salt(store)?;
        Ok(Writer {
            store,
            modality,
            pending,
            whose: match salt {
                Some(_) => "AND a.created_by = current_user",
                None => "",
            },
            salt,
            rows,
        })
    }

    /// Inserts new atoms and counts references. `source` is what the offsets of larger leaves refer to.
    pub fn write(&mut self, source: &mut dyn Source) -> Result<Counts> {
        self.store
            .execute("LOCK TABLE ONLY @store@.atoms IN ROW EXCLUSIVE MODE", &[])?;
        self.look_up()?;
        // References from atoms that seem new; another session may still insert one of them first.
        let planned = self.references(|row| row.state == State::Absent);
        self.insert(&planned)?;
        let references = self.references(|row| row.state == State::Created);
        let mut counts = Counts::default();
        let mut changes = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            let written = match row.state {
                State::Created => planned[number],
                _ => 0,
            };
            match row.state {
                State::Created => counts.created += 1,
                _ if references[number] > 0 => counts.updated += 1,
                _ => counts.skipped += 1,
            }
            if references[number] != written {
                changes.push((row.key, references[number] - written));
            }
        }
        add_references(self.store, changes)?;
        self.insert_chunks(source)?;
        self.insert_parts()?;
        Ok(counts)
    }

    /// Returns the key of a pending atom, once it is written.
    pub fn key(&self, number: usize) -> Key {
        self.rows[number].key
    }

    /// Returns whether this run inserted it.
    pub fn is_new(&self, number: usize) -> bool {
        self.rows[number].state == State::Created
    }

    /// Counts how often each atom is referenced by the run: by whole sources, and by new composites.
    fn references(&self, is_new: impl Fn(&Row) -> bool) -> Vec<i64> {
        let mut references = vec![0; self.rows.len()];
        for &root in &self.pending.roots {
            references[root] += 1;
        }
        for (number, row) in self.rows.iter().enumerate() {
            if is_new(row) {
                for &part in self.pending.parts(number) {
                    references[part as usize] += 1;
                }
            }
        }
        references
    }

    /// Looks up every atom not found yet, and moves on those whose place another content occupies. At most
    /// [`MAX_PROBES`] rounds, twice that with a salt, each of which scans all atoms of the run.
    fn look_up(&mut self) -> Result<()> {
        loop {
            let mut unknown = self.numbers(State::Unknown);
            if unknown.is_empty() {
                return Ok(());
            }
            unknown.sort_unstable_by_key(|&number| self.rows[number].key);
            for batch in unknown.chunks(BATCH) {
                in_scratch_memory(|| self.look_up_batch(batch))?;
                pgrx::check_for_interrupts!();
            }
        }
    }

    fn look_up_batch(&mut self, batch: &[usize]) -> Result<()> {
        let mut hash = Vec::new();
        let there = self.store.write(
            &in_modality(
                "SELECT k.number, a.content_hash
                 FROM unnest($1, $2, $3) WITH ORDINALITY k(h_xy, h_yz, h_zm, number)
                 CROSS JOIN LATERAL (SELECT a.content_hash FROM @store@.atoms a
                                     WHERE a.h_xy = k.h_xy AND a.h_yz = k.h_yz AND a.h_zm = k.h_zm
                                       AND a.h_xy >= @first@ AND a.h_xy < @end@ @whose@ OFFSET 0) a",
                self.modality,
            )
            .replace("@whose@", self.whose),
            &keys(batch.iter().map(|&number| self.rows[number].key)),
            |row| {
                hash.clear();
                row.append_bytes(2, &mut hash)?;
                Ok((row.get::<i64>(1)? as usize - 1, content_hash_of(&hash)?))
            },
        )?;
        for &number in batch {
            self.rows[number].state = State::Absent;
        }
        for (place, hash) in there {
            let number = batch[place];
            if hash == self.pending.atoms[number].hash {
                self.rows[number].state = State::Found;
            } else {
                self.probe(number)?;
            }
        }
        if self.salt.is_none() {
            return Ok(());
        }
        // The role has no copy from before row-level security was enabled.
        for &number in batch {
            let row = &mut self.rows[number];
            if row.state == State::Absent && !row.is_salted {
                row.is_salted = true;
                self.place(number, 0)?;
            }
        }
        Ok(())
    }

    /// Moves an atom to its next place.
    fn probe(&mut self, number: usize) -> Result<()> {
        let probe = self.rows[number].probe + 1;
        if probe >= MAX_PROBES {
            return Err(Failure::new(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("{MAX_PROBES} places of an atom are occupied by other atoms"),
            ));
        }
        self.place(number, probe)
    }

    /// Moves an atom to one of its places.
    fn place(&mut self, number: usize, probe: u32) -> Result<()> {
        let (row, atom) = (&mut self.rows[number], &self.pending.atoms[number]);
        let m = match &self.salt {
            Some(salt) if row.is_salted => m_of(&salted(&atom.hash, salt), probe),
            _ => m_of(&atom.hash, probe),
        };
        row.probe = probe;
        row.key = key_of(self.modality, atom.xyz, m)?;
        row.state = State::Unknown;
        Ok(())
    }

    /// Inserts the rows of absent atoms. If another session, or an earlier row, took a place meanwhile, the atom is
    /// looked up again.
    fn insert(&mut self, references: &[i64]) -> Result<()> {
        loop {
            let mut absent = self.numbers(State::Absent);
            if absent.is_empty() {
                return Ok(());
            }
            absent.sort_unstable_by_key(|&number| self.rows[number].key);
            for batch in absent.chunks(BATCH) {
                in_scratch_memory(|| self.insert_batch(batch, references))?;
                pgrx::check_for_interrupts!();
            }
            let refused = self.numbers(State::Absent);
            let before: Vec<Key> = refused.iter().map(|&n| self.rows[n].key).collect();
            for &number in &refused {
                self.rows[number].state = State::Unknown;
            }
            self.look_up()?;
            // Nothing of ours is at a place that cannot be taken: it has a row of another role.
            for (&number, before) in refused.iter().zip(before) {
                let row = &self.rows[number];
                if row.state == State::Absent && row.key == before {
                    self.probe(number)?;
                }
            }
            self.look_up()?;
        }
    }

    fn insert_batch(&mut self, batch: &[usize], references: &[i64]) -> Result<()> {
        let atoms: Vec<_> = batch.iter().map(|&n| &self.pending.atoms[n]).collect();
        let [h_xy, h_yz, h_zm] = keys(batch.iter().map(|&number| self.rows[number].key));
        let values: Vec<Option<Vec<u8>>> = atoms
            .iter()
            .map(|atom| match &atom.content {
                PendingContent::Inline(bytes) => Some(bytes.to_vec()),
                _ => None,
            })
            .collect();
        let counts: Vec<i64> = batch.iter().map(|&number| references[number]).collect();
        let probes: Vec<i16> = batch.iter().map(|&n| self.rows[n].probe as i16).collect();
        let lengths: Vec<i64> = atoms.iter().map(|atom| atom.byte_length as i64).collect();
        let line_ends: Vec<Option<i64>> = atoms
            .iter()
            .map(|atom| atom.line_ends.map(|count| count as i64))
            .collect();
        let written = self.store.insert(
            "INSERT INTO @store@.atoms (h_xy, h_yz, h_zm, value, modality, probe, content_hash, ref_count, byte_length, line_ends)
             SELECT k.h_xy, k.h_yz, k.h_zm, k.value, (k.h_xy >> 56)::smallint, k.probe, k.content_hash, k.ref_count, k.byte_length, k.line_ends
             FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
                  AS k(h_xy, h_yz, h_zm, value, probe, content_hash, ref_count, byte_length, line_ends)
             ON CONFLICT (h_xy, h_yz, h_zm) DO NOTHING
             RETURNING h_xy, h_yz, h_zm",
            &[
                h_xy,
                h_yz,
                h_zm,
                values.into(),
                probes.into(),
                bytes_array(atoms.iter().map(|atom| atom.hash.to_vec()).collect()),
                counts.into(),
                lengths.into(),
                line_ends.into(),
            ],
            |row| key_in(row, 1),
        )?;
        // Rows are returned in the order of the batch, without the refused ones.
        let mut written = written.into_iter().peekable();
        for &number in batch {
            if written
                .next_if(|&key| key == self.rows[number].key)
                .is_some()
            {
                self.rows[number].state = State::Created;
            }
        }
        Ok(())
    }

    fn insert_chunks(&self, source: &mut dyn Source) -> Result<()> {
        chunk_leaves::insert(self.store, self.chunk_leaves(State::Created), source)?;
        chunk_leaves::mend(self.store, self.chunk_leaves(State::Found), source)
    }

    fn chunk_leaves(&self, state: State) -> Vec<ChunkLeaf> {
        let mut leaves = Vec::new();
        for number in self.numbers(state) {
            let atom = &self.pending.atoms[number];
            if let PendingContent::Chunk(offset) = atom.content {
                leaves.push((self.rows[number].key, atom.hash, offset, atom.byte_length));
            }
        }
        leaves
    }

    fn insert_parts(&self) -> Result<()> {
        let created = self.numbers(State::Created);
        let rows = created.iter().flat_map(|&number| {
            let whole = self.rows[number].key;
            let parts = self.pending.parts(number).iter();
            let parts = parts.map(|&part| self.rows[part as usize].key);
            (0..)
                .zip(parts)
                .map(move |(index, part)| (whole, index, part))
        });
        part_rows::insert(self.store, rows)
    }

    fn numbers(&self, state: State) -> Vec<usize> {
        (0..self.rows.len())
            .filter(|&number| self.rows[number].state == state)
            .collect()
    }
}

/// Returns the key of a content with a fourth coordinate.
fn key_of(modality: Modality, xyz: [u32; 3], m: u32) -> Result<Key> {
    let [x, y, z] = xyz;
    Ok(Key::new(modality, Point { x, y, z, m })?)
}
