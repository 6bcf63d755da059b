//! Pending atoms to rows: what is there already is found, what is new is written, references are counted.
//!
//! Everything is written in the order of the keys and in the same sequence of tables, so that two runs that share
//! contents wait for each other at most one way. The collector waits until no run is under way: each holds ROW EXCLUSIVE
//! on the table of atoms, the collector SHARE ROW EXCLUSIVE.

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

/// Rows of a statement.
const BATCH: usize = 8192;

/// What became of the distinct atoms of a run.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Were not there.
    pub created: i64,
    /// Were there and are referred to once more.
    pub updated: i64,
    /// Were there, as part of something that was.
    pub skipped: i64,
}

/// The rows of a run in the making.
pub struct Writer<'a> {
    store: &'a Store,
    modality: Modality,
    pending: &'a Pending,
    /// Where roles are kept apart, only atoms of one's own are found: a reference from one role's atoms to another's would
    /// be one that the other can neither see nor rely on.
    whose: &'static str,
    /// Where roles are kept apart, what decides where the role's new atoms lie.
    salt: Option<Salt>,
    rows: Vec<Row>,
}

/// Where a pending atom is, or will be.
struct Row {
    key: Key,
    probe: u32,
    /// Whether its place is that of the hash with the role's salt.
    is_salted: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not looked for at its present key.
    Unknown,
    /// Nothing is at its key.
    Absent,
    /// This run wrote it.
    Created,
    /// It was there.
    Found,
}

impl<'a> Writer<'a> {
    /// For the contents of one run, all of one modality.
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

    /// Writes what is not there and counts the references. `source` is what the offsets of larger leaves refer to.
    pub fn write(&mut self, source: &mut dyn Source) -> Result<Counts> {
        self.store
            .execute("LOCK TABLE ONLY @store@.atoms IN ROW EXCLUSIVE MODE", &[])?;
        self.look_up()?;
        // What new atoms refer to, as it looks now; another session may yet write one of them first.
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

    /// The key of a pending atom, once it is written.
    pub fn key(&self, number: usize) -> Key {
        self.rows[number].key
    }

    /// Whether this run wrote it.
    pub fn is_new(&self, number: usize) -> bool {
        self.rows[number].state == State::Created
    }

    /// How often each atom is referred to by the run: as a whole, and by those of its composites that are new.
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

    /// Looks for every atom that has not been found, and moves those whose place another content has.
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
        // The role has not taken it in before roles were kept apart.
        for &number in batch {
            let row = &mut self.rows[number];
            if row.state == State::Absent && !row.is_salted {
                row.is_salted = true;
                self.place(number, 0)?;
            }
        }
        Ok(())
    }

    /// Goes to the next place of an atom.
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

    /// Goes to one of the places of an atom.
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

    /// Writes the rows of absent atoms. Where another session, or an earlier row, took a place meanwhile, the atom is
    /// looked for again.
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
            // Nothing of ours at a place that cannot be taken: it has a row of somebody else.
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
        let written = self.store.write(
            "INSERT INTO @store@.atoms (h_xy, h_yz, h_zm, value, modality, probe, content_hash, ref_count, byte_length)
             SELECT k.h_xy, k.h_yz, k.h_zm, k.value, (k.h_xy >> 56)::smallint, k.probe, k.content_hash, k.ref_count, k.byte_length
             FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
                  AS k(h_xy, h_yz, h_zm, value, probe, content_hash, ref_count, byte_length)
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
            ],
            |row| key_in(row, 1),
        )?;
        // Rows come back in the order of the batch, without those that were refused.
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

/// The key of a content with a fourth coordinate.
fn key_of(modality: Modality, xyz: [u32; 3], m: u32) -> Result<Key> {
    let [x, y, z] = xyz;
    Ok(Key::new(modality, Point { x, y, z, m })?)
}
