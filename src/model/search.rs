//! Searches models by what their cards, tags and evaluations say.

use crate::error::{Code, Failure, Result, or_raise};
use crate::pg::arguments::maybe_text;
use crate::store::Store;
use pgrx::datum::{TimestampWithTimeZone, Uuid as SqlUuid};
use pgrx::prelude::*;

/// Each word is looked up in each card.
const MAX_WORDS_BYTES: usize = 10_000;

type Found = (
    SqlUuid,
    String,
    String,
    Option<String>,
    Vec<String>,
    Option<f64>,
    TimestampWithTimeZone,
    Option<f32>,
);

/// What to search for; all of it must match.
struct Wanted<'a> {
    words: Option<&'a str>,
    tags: Option<Vec<String>>,
    license: Option<&'a str>,
    metric: Option<&'a str>,
    dataset: Option<&'a str>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    name_pattern: Option<&'a str>,
    lowest_first: bool,
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn search_models(
    words: default!(Option<&str>, "NULL"),
    tags: default!(Option<Vec<Option<String>>>, "NULL"),
    license: default!(Option<&str>, "NULL"),
    metric: default!(Option<&str>, "NULL"),
    dataset: default!(Option<&str>, "NULL"),
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    until: default!(Option<TimestampWithTimeZone>, "NULL"),
    name_pattern: default!(Option<&str>, "NULL"),
    lowest_first: default!(Option<bool>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(model_id, SqlUuid),
        name!(model_name, String),
        name!(version, String),
        name!(license, Option<String>),
        name!(tags, Vec<String>),
        name!(metric, Option<f64>),
        name!(created_at, TimestampWithTimeZone),
        name!(rank, Option<f32>),
    ),
> {
    let lowest_first = lowest_first.unwrap_or_else(|| metric.is_some_and(is_better_when_lower));
    TableIterator::new(or_raise(search(Wanted {
        // An empty search field filters nothing.
        words: words.filter(|words| !words.trim().is_empty()),
        tags: tags.map(|tags| tags.into_iter().flatten().collect()),
        license,
        metric,
        dataset,
        since,
        until,
        name_pattern,
        lowest_first,
    })))
}

/// Returns whether the name of a metric says that less is better, as in `eval_loss`.
fn is_better_when_lower(metric: &str) -> bool {
    const LOWER: [&str; 18] = [
        "loss",
        "perplexity",
        "ppl",
        "nll",
        "bpb",
        "bpc",
        "error",
        "wer",
        "cer",
        "ter",
        "mse",
        "rmse",
        "mae",
        "mape",
        "fid",
        "kid",
        "latency",
        "time",
    ];
    let mut words = metric.split(|c: char| !c.is_alphanumeric());
    words.any(|word| LOWER.contains(&word.to_lowercase().as_str()))
}

fn search(wanted: Wanted<'_>) -> Result<Vec<Found>> {
    let length = wanted.words.map_or(0, str::len);
    if length > MAX_WORDS_BYTES {
        return Err(Failure::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("words have {length} bytes"),
        )
        .detail(format!("At most {MAX_WORDS_BYTES} bytes are searched for.")));
    }
    let text = maybe_text;
    Store::for_reading()?.rows(
        // The name counts more than the tags, and these more than the card. Parts of a name such as org/all-MiniLM_v2 are
        // words as well. Of a hostile card's tags only the beginning is searched: a tsvector is limited.
        "SELECT m.model_id, m.model_name, m.version, m.license, m.tags, e.value, m.created_at,
                CASE WHEN $1 IS NOT NULL THEN ts_rank(d.document, websearch_to_tsquery('pg_catalog.english', $1)) END AS rank
         FROM @store@.models m
         CROSS JOIN LATERAL (
             SELECT setweight(to_tsvector('pg_catalog.english',
                        concat_ws(' ', m.model_name, translate(m.model_name, '/_', '  '), translate(m.model_name, '/_.-', '    '))), 'A')
                 || setweight(to_tsvector('pg_catalog.english', left(array_to_string(m.tags, ' '), 2000)), 'B')
                 || coalesce(m.card_words, '') AS document
         ) d
         LEFT JOIN LATERAL (
             SELECT true AS found, CASE WHEN abs(v.number) <= 1e300 THEN round(v.number, 320)::float8 END AS value
             FROM jsonb_array_elements(m.evaluations) WITH ORDINALITY AS logged(evaluation, n)
             CROSS JOIN LATERAL (
                 SELECT CASE WHEN jsonb_typeof(evaluation -> 'metrics' -> $4) = 'number'
                             THEN (evaluation -> 'metrics' -> $4)::numeric END
             ) v(number)
             WHERE ($5 IS NULL OR evaluation ->> 'dataset' = $5) AND ($4 IS NULL OR abs(v.number) <= 1e300)
             ORDER BY n DESC LIMIT 1
         ) e ON true
         WHERE m.status <> 'archived'
           AND ($1 IS NULL OR d.document @@ websearch_to_tsquery('pg_catalog.english', $1))
           AND ($2 IS NULL OR m.tags || ARRAY(
                   SELECT v #>> '{}' FROM unnest(ARRAY['pipeline_tag', 'library_name', 'language']) AS of(field),
                          jsonb_path_query(m.card -> field, '$[*]') v) @> $2)
           AND ($3 IS NULL OR lower(m.license) = lower($3))
           AND ($4 IS NULL AND $5 IS NULL OR e.found)
           AND ($6 IS NULL OR m.created_at >= $6) AND ($7 IS NULL OR m.created_at < $7)
           AND ($8 IS NULL OR m.model_name LIKE $8)
         ORDER BY CASE WHEN $9 THEN e.value ELSE -e.value END NULLS LAST, rank DESC NULLS LAST,
                  m.model_name, m.created_at DESC, m.model_id",
        &[
            text(wanted.words),
            wanted.tags.into(),
            text(wanted.license),
            text(wanted.metric),
            text(wanted.dataset),
            wanted.since.into(),
            wanted.until.into(),
            text(wanted.name_pattern),
            wanted.lowest_first.into(),
        ],
        |row| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.opt(4)?,
                row.get(5)?,
                row.opt(6)?,
                row.get(7)?,
                row.opt(8)?,
            ))
        },
    )
}
