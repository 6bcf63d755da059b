//! Names near to a misspelt one.

/// Longest name that is compared, in characters: the comparison takes time in proportion to the product of two lengths.
const MAX_COMPARED: usize = 200;

/// Returns up to `most` candidates that `wanted` may have meant, the likeliest first: they differ by a third of its
/// characters at most (insertions, deletions, replacements, exchanges of neighbours; case does not count), or one
/// contains the other. Equal distances keep the order of the candidates.
pub fn nearest<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let length = wanted.chars().count();
    if length > MAX_COMPARED {
        return Vec::new();
    }
    let limit = (length / 3).max(1);
    let mut found: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let other = lower.chars().count();
            if other > MAX_COMPARED {
                return None;
            }
            let contained = lower.contains(&wanted) || wanted.contains(&lower);
            // The distance is at least the difference in length.
            if length.abs_diff(other) > limit && !contained {
                return None;
            }
            let distance = strsim::damerau_levenshtein(&wanted, &lower);
            let contains = !lower.is_empty() && length > 2 && contained && lower.len() > 2;
            match (distance <= limit, contains) {
                (true, _) => Some((distance, candidate)),
                // After the ones that differ by a few characters.
                (false, true) => Some((limit + distance, candidate)),
                (false, false) => None,
            }
        })
        .collect();
    found.sort_by_key(|(distance, _)| *distance);
    found.truncate(most);
    found.into_iter().map(|(_, name)| name).collect()
}
