//! Splits a source into atoms.

use crate::atom::pending::Pending;
use crate::error::Result;
use crate::io::Source;
use crate::pg::progress::Progress;
use crate::store::Store;
use modelstore_atom::Modality;
use modelstore_atom::coordinates::Coordinates;
use modelstore_atom::cut::{Cutter, HEAD_BYTES, LOOKAHEAD, count_line_ends};
use modelstore_atom::tree::{Features, TreeBuilder};

/// Bytes read at a time.
const WINDOW_BYTES: usize = 4 << 20;
/// Maximum number of distinct atoms per run: each takes about 200 bytes of memory.
pub const MAX_PENDING: u32 = 1 << 24;

/// What is computed of the bytes of an atom.
pub struct Seen {
    /// Its coordinates except the fourth.
    pub xyz: [u32; 3],
    /// The number of its line ends, if it is text.
    pub line_ends: Option<u64>,
}

/// Computes it while the bytes pass.
#[derive(Clone)]
struct Measure {
    coordinates: Coordinates,
    line_ends: Option<u64>,
}

impl Measure {
    fn new(modality: Modality) -> Measure {
        Measure {
            coordinates: Coordinates::new(modality),
            line_ends: modality.has_lines().then_some(0),
        }
    }
}

impl Features for Measure {
    type Output = Seen;

    fn update(&mut self, bytes: &[u8]) {
        self.coordinates.update(bytes);
        if let Some(line_ends) = &mut self.line_ends {
            *line_ends += count_line_ends(bytes);
        }
    }

    fn finish(self) -> Seen {
        Seen {
            xyz: self.coordinates.finish(),
            line_ends: self.line_ends,
        }
    }
}

/// Splits the next source; `pg_stat_progress_copy` shows the progress. `base` is its offset in the concatenation of the
/// run's sources.
pub fn collect(
    store: &Store,
    source: &mut dyn Source,
    base: u64,
    modality: Modality,
    pending: &mut Pending,
) -> Result<()> {
    let total = source.len();
    let mut window = Vec::new();
    source.read_at(0, total.min(HEAD_BYTES as u64) as usize, &mut window)?;
    let mut cutter = Cutter::new(modality, &window, total);
    let mut tree = TreeBuilder::new(Measure::new(modality));
    let (mut start, mut at) = (0, 0);
    // Only for sources that take long enough to be observed.
    let mut progress =
        (total > WINDOW_BYTES as u64).then(|| Progress::begin(store.relation_oid("atoms"), total));
    loop {
        let end_of_window = start + window.len() as u64;
        if window.len() - at < LOOKAHEAD && end_of_window < total {
            if let Some(progress) = &mut progress {
                progress.advance(at as u64);
            }
            start += at as u64;
            at = 0;
            let len = (total - start).min(WINDOW_BYTES as u64) as usize;
            source.read_at(start, len, &mut window)?;
            pgrx::check_for_interrupts!();
        }
        if at == window.len() {
            break;
        }
        let rest = &window[at..];
        let leaf = cutter.next(rest);
        at += leaf.len;
        let end = base + start + at as u64;
        tree.leaf(&rest[..leaf.len], leaf.ends_group, &mut |node| {
            pending.add(node, end)
        })?;
    }
    let root = tree.finish(&mut |node| pending.add(node, base + total))?;
    pending.roots.push(pending.number(&root)?);
    Ok(())
}
