//! Inserts the rows of tensors, which others may be inserting too.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::port::{Identity, NewTensor, Session, TensorStore};
use crate::write::{BATCH_TENSORS, Row, Rows};

/// How often an insert is retried. Each retry means that another session committed the row and gc removed it in
/// between.
const TRIES: usize = 100;

/// Finds stored tensors, and protects them from gc until the transaction ends.
pub fn lock_tensors<'a, S: TensorStore>(
    store: &mut S,
    identities: impl Iterator<Item = &'a Identity>,
    stored: &mut HashMap<Identity, Uuid>,
) -> Result<(), S::Error> {
    let identities: Vec<&Identity> = identities.collect();
    for batch in identities.chunks(BATCH_TENSORS) {
        stored.extend(store.lock_tensors(batch)?);
    }
    Ok(())
}

/// Inserts tensors and their pieces in the order of identities, or finds those that another session has inserted
/// meanwhile, and returns these.
pub fn insert_tensors<'a, S: TensorStore, C: Session<Error = S::Error>>(
    store: &mut S,
    session: &C,
    rows: &Rows<'a>,
    stored: &mut HashMap<Identity, Uuid>,
) -> Result<HashSet<&'a Identity>, S::Error> {
    let mut rest: Vec<(&'a Identity, Row<'a>)> = rows.iter().map(|(i, row)| (*i, *row)).collect();
    let mut found = HashSet::new();
    for _ in 0..TRIES {
        for batch in rest.chunks(BATCH_TENSORS) {
            let new: Vec<NewTensor<'_>> = batch
                .iter()
                .map(|(identity, (tensor, scan))| NewTensor {
                    identity,
                    shape: tensor.shape,
                    pieces: &scan.pieces,
                })
                .collect();
            for ((identity, _), id) in batch.iter().zip(store.add_tensors(&new)?) {
                stored.extend(id.map(|id| ((*identity).clone(), id)));
            }
            session.check()?;
        }
        rest.retain(|(identity, _)| !stored.contains_key(*identity));
        lock_tensors(store, rest.iter().map(|(identity, _)| *identity), stored)?;
        rest.retain(|(identity, _)| {
            let is_stored = stored.contains_key(*identity);
            if is_stored {
                found.insert(*identity);
            }
            !is_stored
        });
        if rest.is_empty() {
            return Ok(found);
        }
    }
    let name = rest.first().map_or("", |(_, (tensor, _))| tensor.name);
    Err(store.not_stored(name))
}
