//! Leaves too large for a row of `atoms`, encoded like chunks of tensors in their own table.

use crate::atom::key::name;
use crate::atom::statement::{codes, keys};
use crate::chunks::chunk_array::chunk_array;
use crate::error::{Code, Failure, Result, warning};
use crate::io::Source;
use crate::pg::arguments::chunk;
use crate::pg::background::Backend;
use crate::pg::scratch::in_scratch_memory;
use crate::pg::varlena::Building;
use crate::store::Store;
use modelstore_atom::Key;
use modelstore_atom::cut::count_line_ends;
use modelstore_chunk::{ChunkHash, Decoder, Encoder, Error, Session};
use modelstore_tensor::DType;

/// A leaf to write: its key, hash, offset in the source and length.
pub type ChunkLeaf = (Key, [u8; 32], u64, u64);

/// Leaves checked per statement: at most 4 MiB.
const LOOKED_AT: usize = 64;
/// Bytes of the source whose leaves are written by one statement.
const WRITTEN_BYTES: u64 = 4 << 20;
/// Bytes that a thread encodes or decodes at a time: leaves of text are too short to be handed over one by one.
const JOB_BYTES: u64 = 128 << 10;

/// Selects index and chunk of leaves by their keys.
const CHUNKS: &str =
    "SELECT k.number, c.chunk FROM unnest($1, $2, $3) WITH ORDINALITY k(h_xy, h_yz, h_zm, number)
     CROSS JOIN LATERAL (SELECT c.chunk FROM @store@.atom_chunks c
                         WHERE c.h_xy = k.h_xy AND c.h_yz = k.h_yz AND c.h_zm = k.h_zm OFFSET 0) c";

/// Leaves next to each other in the source, for a thread to encode: their bytes, and the hash and length of each.
type Unencoded = (Vec<u8>, Vec<([u8; 32], usize)>);

/// Writes new leaves, in the order of the source. Nobody else writes them: this run has inserted their atoms.
pub fn insert(store: &Store, mut leaves: Vec<ChunkLeaf>, source: &mut dyn Source) -> Result<()> {
    leaves.sort_unstable_by_key(|&(_, _, offset, _)| offset);
    let mut raw = Vec::new();
    let mut rest = leaves.as_slice();
    while let Some(&(_, _, start, _)) = rest.first() {
        let fits = |&&(_, _, offset, len): &&ChunkLeaf| offset + len - start <= WRITTEN_BYTES;
        let (batch, after) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = after;
        let end = batch
            .last()
            .map_or(start, |&(_, _, offset, len)| offset + len);
        in_scratch_memory(|| source.read_at(start, (end - start) as usize, &mut raw))?;
        let mut encoded = encode(batch, &raw)?;
        encoded.sort_unstable_by_key(|(key, _)| *key);
        in_scratch_memory(|| put_all(store, &encoded))?;
        pgrx::check_for_interrupts!();
    }
    Ok(())
}

/// Encodes leaves on threads. `raw` begins where the first one does.
fn encode(leaves: &[ChunkLeaf], raw: &[u8]) -> Result<Vec<(Key, Vec<u8>)>> {
    let start = leaves.first().map_or(0, |leaf| leaf.2);
    let jobs = in_jobs(leaves, |leaf| leaf.3).map(|leaves| {
        let mut bytes = Vec::new();
        let mut parts = Vec::new();
        for &(_, hash, offset, len) in leaves {
            let at = (offset - start) as usize;
            let leaf = raw.get(at..at + len as usize).unwrap_or_default();
            bytes.extend_from_slice(leaf);
            parts.push((hash, leaf.len()));
        }
        Ok((bytes, parts))
    });
    let mut pipeline = Backend::silent().pipeline(
        Encoder::new,
        |encoder: &mut Encoder, (bytes, parts): Unencoded| {
            let mut rest = bytes.as_slice();
            let encode = |(hash, len)| {
                let (raw, after) = rest.split_at(len);
                rest = after;
                // The source may have changed since it was hashed.
                if blake3::hash(raw).as_bytes() != &hash {
                    return Ok(None);
                }
                let mut encoded = Vec::new();
                encoder.encode(DType::U8, raw, &mut encoded)?;
                Ok(Some(encoded))
            };
            parts
                .into_iter()
                .map(encode)
                .collect::<Result<Vec<_>, Error>>()
        },
    )?;
    let mut encoded = Vec::with_capacity(leaves.len());
    let mut numbers = leaves.iter();
    let mut check = || Backend::silent().check();
    pipeline.drive(jobs, &mut check, |done| {
        for chunk in done? {
            let Some(&(key, _, offset, len)) = numbers.next() else {
                break;
            };
            encoded.push((key, chunk.ok_or_else(|| changed(offset, len))?));
        }
        Ok::<(), Failure>(())
    })?;
    Ok(encoded)
}

/// Splits leaves into runs of [`JOB_BYTES`] or one leaf.
fn in_jobs<T>(leaves: &[T], len: impl Fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    let mut rest = leaves;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |leaf: &&T| {
            bytes += len(leaf);
            bytes <= JOB_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (job, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(job)
    })
}

fn put_all(store: &Store, encoded: &[(Key, Vec<u8>)]) -> Result<()> {
    let values = encoded
        .iter()
        .map(|(_, bytes)| Building::from_parts(&[bytes]))
        .collect::<Result<Vec<_>>>()?;
    let [h_xy, h_yz, h_zm] = keys(encoded.iter().map(|(key, _)| *key));
    store.execute(
        "INSERT INTO @store@.atom_chunks (h_xy, h_yz, h_zm, chunk) SELECT * FROM unnest($1, $2, $3, $4)",
        &[h_xy, h_yz, h_zm, chunk_array(&values)],
    )?;
    Ok(())
}

/// Checks existing leaves, in the order of their keys, and replaces those that do not match their hash.
pub fn mend(store: &Store, mut leaves: Vec<ChunkLeaf>, source: &mut dyn Source) -> Result<()> {
    leaves.sort_unstable();
    let (mut encoder, mut decoder, mut raw) = (Encoder::new(), Decoder::new(), Vec::new());
    for batch in leaves.chunks(LOOKED_AT) {
        let mut good = vec![false; batch.len()];
        in_scratch_memory(|| {
            let mut encoded = Vec::new();
            let keys = keys(batch.iter().map(|leaf| leaf.0));
            store.query(CHUNKS, &keys, |row| {
                encoded.clear();
                row.append_chunk(2, &mut encoded)?;
                let number = row.get::<i64>(1)? as usize - 1;
                raw.clear();
                good[number] = decoder.decode(&encoded, None, &mut raw).is_ok()
                    && blake3::hash(&raw).as_bytes() == &batch[number].1;
                Ok(())
            })
        })?;
        for (leaf, good) in batch.iter().zip(good) {
            if good {
                continue;
            }
            read_again(source, leaf, &mut raw)?;
            put(
                store,
                &mut encoder,
                leaf.0,
                &raw,
                "WITH leaf AS MATERIALIZED (
                     SELECT h_xy, h_yz, h_zm, is_public, created_by FROM @store@.atoms WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3)
                 INSERT INTO @store@.atom_chunks (h_xy, h_yz, h_zm, is_public, created_by, chunk)
                 SELECT leaf.*, $4 FROM leaf
                 ON CONFLICT (h_xy, h_yz, h_zm) DO UPDATE SET chunk = excluded.chunk",
            )?;
            warning(&format!(
                "chunk of atom {} was damaged and has been replaced",
                name(leaf.0)
            ));
        }
        pgrx::check_for_interrupts!();
    }
    Ok(())
}

/// Reads a leaf again and checks its hash: the source may have changed since it was hashed.
fn read_again(source: &mut dyn Source, leaf: &ChunkLeaf, raw: &mut Vec<u8>) -> Result<()> {
    let (_, hash, offset, len) = *leaf;
    in_scratch_memory(|| source.read_at(offset, len as usize, raw))?;
    if blake3::hash(raw).as_bytes() == &hash {
        return Ok(());
    }
    Err(changed(offset, len))
}

/// Encodes a leaf and writes it with a statement that takes its key and its chunk.
fn put(store: &Store, encoder: &mut Encoder, key: Key, raw: &[u8], statement: &str) -> Result<()> {
    let mut encoded = Vec::new();
    encoder.encode(DType::U8, raw, &mut encoded)?;
    in_scratch_memory(|| {
        let value = Building::from_parts(&[encoded.as_slice()])?;
        let [h_xy, h_yz, h_zm] = codes(key);
        store.execute(statement, &[h_xy, h_yz, h_zm, chunk(&value)])?;
        value.free();
        Ok(())
    })
}

fn changed(offset: u64, len: u64) -> Failure {
    Failure::new(
        Code::ERRCODE_OBJECT_IN_USE,
        format!(
            "data changed while it was ingested: bytes {offset} to {}",
            offset + len
        ),
    )
    .detail("Another transaction writes to the large object.")
}

/// A larger leaf to read.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// Its key.
    pub key: Key,
    /// Its hash.
    pub hash: ChunkHash,
    /// Its length.
    pub byte_length: u64,
    /// Its line ends, if it is text.
    pub line_ends: Option<u64>,
}

/// Appends the content of leaves, in order, decoded on threads. A leaf that does not match its hash is an error.
pub fn read(store: &Store, wanted: &[Wanted], out: &mut Vec<u8>) -> Result<()> {
    let mut encoded: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
    store.query(CHUNKS, &keys(wanted.iter().map(|leaf| leaf.key)), |row| {
        let mut bytes = Vec::new();
        row.append_chunk(2, &mut bytes)?;
        encoded[row.get::<i64>(1)? as usize - 1] = Some(bytes);
        Ok(())
    })?;
    let mut pipeline = Backend::silent().pipeline(
        Decoder::new,
        |decoder: &mut Decoder, chunks: Vec<(Vec<u8>, Wanted)>| {
            let mut raw = Vec::new();
            for (bytes, leaf) in chunks {
                decode(decoder, &bytes, &leaf, &mut raw).map_err(|e| (leaf.key, e))?;
            }
            Ok(raw)
        },
    )?;
    let mut encoded = encoded.into_iter();
    let jobs = in_jobs(wanted, |leaf| leaf.byte_length).map(|leaves| {
        leaves
            .iter()
            .zip(&mut encoded)
            .map(|(leaf, bytes)| Ok((bytes.ok_or_else(|| bad(leaf.key, "missing"))?, *leaf)))
            .collect::<Result<Vec<_>>>()
    });
    let mut check = || Backend::silent().check();
    pipeline.drive(jobs, &mut check, |raw: Result<Vec<u8>, (Key, String)>| {
        out.extend_from_slice(&raw.map_err(|(key, e)| bad(key, &format!("corrupted: {e}")))?);
        Ok::<(), Failure>(())
    })
}

/// Appends what a chunk decodes to, and checks it.
fn decode(
    decoder: &mut Decoder,
    bytes: &[u8],
    leaf: &Wanted,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let mut raw = Vec::new();
    decoder
        .decode(bytes, None, &mut raw)
        .map_err(|e| e.to_string())?;
    let actual = ChunkHash::of(&raw);
    if actual != leaf.hash {
        let expected = leaf.hash;
        return Err(Error::HashMismatch { expected, actual }.to_string());
    }
    if let Some(expected) = leaf.line_ends
        && count_line_ends(&raw) != expected
    {
        return Err(format!("it does not have {expected} line ends"));
    }
    out.extend_from_slice(&raw);
    Ok(())
}

fn bad(key: Key, what: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_DATA_CORRUPTED,
        format!("chunk of atom {} is {what}", name(key)),
    )
    .hint("SELECT * FROM modelstore.verify_atoms();")
}
