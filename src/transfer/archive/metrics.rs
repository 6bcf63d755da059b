//! Metrics of a run as lines of JSON, out and in. There can be millions.

use crate::error::{Failure, Result};
use crate::io::Source;
use crate::names;
use crate::pg::arguments::{now, text, uuid};
use crate::pg::query::Row;
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use crate::transfer::archive::describe::utc;
use crate::transfer::plan::figure;
use modelstore_archive::Error;
use serde_json::{Value, json};
use std::collections::VecDeque;
use uuid::Uuid;

/// Rows of a statement.
const BATCH: usize = 8192;

/// Bytes read at a time, and the longest line: names have at most a kibibyte.
const BLOCK: usize = 256 << 10;

/// The lines of a run: metric after metric in the order of names, each in the order of recording.
pub struct Lines {
    store: Store,
    run: Uuid,
    names: VecDeque<String>,
    /// The time of the last line.
    after: Option<String>,
}

/// A record: microseconds and text of its time, step, epoch, value.
type Record = (i64, String, i64, Option<f64>, f64);

impl Lines {
    /// Begins with the first line.
    pub fn new(store: &Store, run: Uuid) -> Result<Lines> {
        // One step in the index a metric.
        let mut names = store.rows(
            "WITH RECURSIVE names AS (
                 SELECT min(metric_name) AS name FROM @store@.training_metrics WHERE session_id = $1
                 UNION ALL
                 SELECT (SELECT min(metric_name) FROM @store@.training_metrics WHERE session_id = $1 AND metric_name > names.name)
                 FROM names WHERE names.name IS NOT NULL)
             SELECT name FROM names WHERE name IS NOT NULL",
            &[uuid(run)],
            |row| row.get::<String>(1),
        )?;
        names.sort_unstable();
        Ok(Lines {
            store: store.clone(),
            run,
            names: names.into(),
            after: None,
        })
    }

    /// Returns the next lines, or `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        while let Some(name) = self.names.front().cloned() {
            pgrx::check_for_interrupts!();
            let mut records = in_scratch_memory(|| self.page(&name))?;
            let Some((_, at, ..)) = records.last() else {
                self.names.pop_front();
                self.after = None;
                continue;
            };
            self.after = Some(at.clone());
            // Whatever the order of the rows is.
            records.sort_by(|a, b| {
                let key = |r: &Record| (r.0, r.2, r.4.to_bits(), r.3.map(f64::to_bits));
                key(a).cmp(&key(b))
            });
            let mut out = Vec::new();
            for (_, at, step, epoch, value) in records {
                let line = json!({
                    "name": name, "step": step, "epoch": epoch.map(figure), "value": figure(value), "recorded_at": at,
                });
                out.extend_from_slice(line.to_string().as_bytes());
                out.push(b'\n');
            }
            return Ok(Some(out));
        }
        Ok(None)
    }

    /// Returns the next records, with all of the last time.
    fn page(&self, name: &str) -> Result<Vec<Record>> {
        let sql = |condition: &str| {
            format!(
                concat!(
                    "SELECT CASE WHEN isfinite(recorded_at) THEN (extract(epoch FROM recorded_at) * 1000000)::bigint
                                 WHEN recorded_at > now() THEN 9223372036854775807 ELSE -9223372036854775808 END, ",
                    utc!("recorded_at"),
                    ", step, epoch, value FROM @store@.training_metrics
                     WHERE session_id = $1 AND metric_name = $2 {condition}
                     ORDER BY recorded_at FETCH FIRST {BATCH} ROWS WITH TIES"
                ),
                condition = condition,
                BATCH = BATCH
            )
        };
        let make = |row: &Row<'_>| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.opt(4)?,
                row.get(5)?,
            ))
        };
        let mut arguments = vec![uuid(self.run), text(name)];
        match &self.after {
            None => self.store.rows(&sql(""), &arguments, make),
            Some(after) => {
                arguments.push(text(after));
                let condition = "AND recorded_at > $3::timestamptz";
                self.store.rows(&sql(condition), &arguments, make)
            }
        }
    }
}

/// Returns the bytes of all lines.
pub fn bytes(store: &Store, run: Uuid) -> Result<u64> {
    let mut lines = Lines::new(store, run)?;
    let mut bytes = 0;
    while let Some(part) = lines.next()? {
        bytes += part.len() as u64;
    }
    Ok(bytes)
}

/// Reads lines into the metrics of a run.
pub fn restore(store: &Store, run: Uuid, name: &str, source: &mut dyn Source) -> Result<()> {
    let (mut at, len) = (0, source.len());
    let (mut rest, mut part, mut number) = (Vec::new(), Vec::new(), 0);
    let mut batch = Vec::new();
    let malformed = |line: u64, reason: &dyn ToString| Error::Metrics {
        name: name.to_owned(),
        line,
        reason: reason.to_string(),
    };
    while at < len {
        pgrx::check_for_interrupts!();
        let size = (len - at).min(BLOCK as u64);
        source.read_at(at, size as usize, &mut part)?;
        at += size;
        rest.extend_from_slice(&part);
        let complete = match rest.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if at < len && rest.len() <= BLOCK => continue,
            None => return Err(malformed(number + 1, &"it has no end").into()),
        };
        for line in rest[..complete].split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            number += 1;
            let record = read(line).map_err(|reason| malformed(number, &reason))?;
            names::check("metric name", &record.name)?;
            batch.push(record);
            if batch.len() == BATCH {
                in_scratch_memory(|| insert(store, run, &batch))?;
                batch.clear();
            }
        }
        rest.drain(..complete);
    }
    if !rest.is_empty() {
        return Err(malformed(number + 1, &"it has no end").into());
    }
    in_scratch_memory(|| insert(store, run, &batch))
}

struct Restored {
    name: String,
    step: i64,
    epoch: Option<f64>,
    value: f64,
    recorded_at: String,
}

fn read(line: &[u8]) -> std::result::Result<Restored, String> {
    let line: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let text = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| match line.get(key) {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    };
    let missing = |key: &str| format!("{key} is missing or of another type");
    Ok(Restored {
        name: text("name").ok_or_else(|| missing("name"))?,
        step: line
            .get("step")
            .and_then(Value::as_i64)
            .ok_or_else(|| missing("step"))?,
        epoch: match line.get("epoch") {
            None | Some(Value::Null) => None,
            _ => Some(number("epoch").ok_or_else(|| missing("epoch"))?),
        },
        value: number("value").ok_or_else(|| missing("value"))?,
        recorded_at: text("recorded_at").ok_or_else(|| missing("recorded_at"))?,
    })
}

fn insert(store: &Store, run: Uuid, batch: &[Restored]) -> Result<(), Failure> {
    let names: Vec<&str> = batch.iter().map(|r| r.name.as_str()).collect();
    let times: Vec<&str> = batch.iter().map(|r| r.recorded_at.as_str()).collect();
    store.execute(
        "INSERT INTO @store@.training_metrics (session_id, metric_name, step, epoch, value, recorded_at, may_be_lowest)
         SELECT $1, name, step, epoch, value, least(recorded_at::timestamptz, $7),
                coalesce(value <= min(value) OVER (PARTITION BY name ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true)
         FROM unnest($2, $3, $4, $5, $6) WITH ORDINALITY AS u(name, step, epoch, value, recorded_at, n)",
        &[
            uuid(run),
            names.into(),
            batch.iter().map(|r| r.step).collect::<Vec<_>>().into(),
            batch.iter().map(|r| r.epoch).collect::<Vec<_>>().into(),
            batch.iter().map(|r| r.value).collect::<Vec<_>>().into(),
            times.into(),
            now(),
        ],
    )?;
    Ok(())
}
