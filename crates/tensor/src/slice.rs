//! Slices as text, in numpy's basic indexing: `3`, `-1`, `2:10`, `::2`, `0:10, :`, `..., 0`.
//!
//! Negative integers count from the end, and integers remove their dimension; bounds of a range are clamped; missing
//! dimensions are selected as a whole. Steps are positive; `newaxis`, masks and lists of indices are refused.

use crate::selection::Axis;
use crate::{Error, Result, Shape};

pub use crate::selection::{Selection, gather};

/// A parsed slice, independent of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    items: Vec<Item>,
}

/// One item between commas. Integers have 128 bits, so that numbers of 64 bits and more are kept as written; beyond
/// that they saturate, which makes no difference for clamping and range checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Index(i128),
    Range {
        start: Option<i128>,
        stop: Option<i128>,
        step: i128,
    },
    Ellipsis,
}

/// Parses a slice, with or without one pair of brackets around it, as in `[0:2, 1]`. Brackets around nothing but
/// integers are refused: in numpy `a[0, 1]` is one element, and `a[[0, 1]]` selects two rows.
pub fn parse(text: &str) -> Result<Slice> {
    let mut cursor = Cursor { text, at: 0 };
    let bracketed = cursor.take("[");
    let mut items: Vec<Item> = Vec::new();
    loop {
        let item = cursor.item()?;
        if item == Item::Ellipsis && items.contains(&Item::Ellipsis) {
            return Err(Error::SliceEllipsis);
        }
        // A tensor has no more dimensions, and one ellipsis; this also bounds the search above.
        if items.len() > Shape::MAX_RANK {
            return Err(Error::RankTooLarge(items.len()));
        }
        items.push(item);
        // The list may end with a comma, as in Python.
        if !cursor.take(",") || cursor.at_end() || bracketed && cursor.rest().starts_with(']') {
            break;
        }
    }
    if bracketed && !cursor.take("]") {
        return Err(cursor.unexpected());
    }
    if bracketed && items.iter().all(|item| matches!(item, Item::Index(_))) {
        let list = text[..cursor.at].trim().trim_matches(['[', ']']).trim();
        return Err(Error::SliceList(list.chars().take(64).collect()));
    }
    if !cursor.at_end() {
        return Err(cursor.unexpected());
    }
    Ok(Slice { items })
}

impl Slice {
    /// Returns what the slice selects of a tensor of this shape.
    pub fn resolve(&self, shape: &Shape) -> Result<Selection> {
        let has_ellipsis = self.items.contains(&Item::Ellipsis);
        let given = self.items.len() - usize::from(has_ellipsis);
        let Some(whole) = shape.rank().checked_sub(given) else {
            return Err(Error::SliceRank {
                given,
                rank: shape.rank(),
            });
        };
        let mut axes = Vec::with_capacity(shape.rank());
        for &item in &self.items {
            if item == Item::Ellipsis {
                axes.extend(
                    shape.dims()[axes.len()..][..whole]
                        .iter()
                        .map(|&n| Axis::whole(n)),
                );
            } else {
                axes.push(resolve_item(item, axes.len(), shape.dims()[axes.len()])?);
            }
        }
        axes.extend(shape.dims()[axes.len()..].iter().map(|&n| Axis::whole(n)));
        Selection::new(shape.clone(), axes)
    }
}

fn resolve_item(item: Item, axis: usize, size: u64) -> Result<Axis> {
    let end = i128::from(size);
    let from_end = |i: i128| if i < 0 { i.saturating_add(end) } else { i };
    match item {
        Item::Ellipsis => Ok(Axis::whole(size)),
        Item::Index(index) => match u64::try_from(from_end(index)) {
            Ok(start) if start < size => Ok(Axis::index(start)),
            _ => Err(Error::SliceIndex { index, axis, size }),
        },
        Item::Range { start, stop, step } => {
            let start = from_end(start.unwrap_or(0)).clamp(0, end);
            let stop = from_end(stop.unwrap_or(end)).clamp(start, end);
            let span = stop - start;
            let count = span / step + i128::from(span % step != 0);
            // All three are between 0 and the size; a step beyond it is never taken.
            Ok(Axis::range(
                start as u64,
                count as u64,
                step.min(end.max(1)) as u64,
            ))
        }
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_ascii_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    fn at_end(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn item(&mut self) -> Result<Item> {
        if self.take("...") {
            return Ok(Item::Ellipsis);
        }
        let start = self.integer()?;
        if !self.take(":") {
            return match start {
                Some(index) => Ok(Item::Index(index)),
                None => Err(self.unexpected()),
            };
        }
        let stop = self.integer()?;
        let step = if self.take(":") {
            self.integer()?.unwrap_or(1)
        } else {
            1
        };
        if step < 1 {
            return Err(Error::SliceStep(step));
        }
        Ok(Item::Range { start, stop, step })
    }

    fn integer(&mut self) -> Result<Option<i128>> {
        let rest = self.rest();
        let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return if unsigned.len() == rest.len() {
                Ok(None)
            } else {
                Err(self.unexpected())
            };
        }
        let value = unsigned.bytes().take(digits).fold(0i128, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(i128::from(digit - b'0'))
        });
        self.at += rest.len() - unsigned.len() + digits;
        Ok(Some(if rest.starts_with('-') { -value } else { value }))
    }

    fn unexpected(&mut self) -> Error {
        let rest = self.rest();
        let word: String = rest
            .chars()
            .take(64)
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let known = ["none", "newaxis", "true", "false"];
        if rest.starts_with(['[', '(']) || known.iter().any(|k| word.eq_ignore_ascii_case(k)) {
            let item = if word.is_empty() {
                rest.chars().take(1).collect()
            } else {
                word
            };
            return Error::SliceUnsupported(item);
        }
        let found = match rest.chars().next() {
            None => "end of text".into(),
            Some(c) if word.is_empty() => c.to_string(),
            Some(_) => word,
        };
        Error::SliceSyntax {
            found,
            position: self.text[..self.at].chars().count() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape and the runs of the result.
    type Selected = (Vec<u64>, Vec<(u64, u64)>);

    fn select(text: &str, dims: &[u64]) -> Result<Selected> {
        let selection = parse(text)?.resolve(&Shape::new(dims)?)?;
        Ok((selection.shape.dims().to_vec(), selection.runs().collect()))
    }

    #[test]
    fn rows_of_a_matrix_are_one_run() {
        assert_eq!(select("2:5", &[10, 4]), Ok((vec![3, 4], vec![(8, 12)])));
        assert_eq!(
            select("[2:5, :]", &[10, 4]),
            Ok((vec![3, 4], vec![(8, 12)]))
        );
        assert_eq!(select(" [ 2:5 ] ", &[10, 4]), select("2:5", &[10, 4]));
        assert_eq!(select("[3, ...]", &[10, 4]), select("3", &[10, 4]));
        assert_eq!(select("3", &[10, 4]), Ok((vec![4], vec![(12, 4)])));
        assert_eq!(select("...", &[]), Ok((vec![], vec![(0, 1)])));
        assert_eq!(
            select(":, 1:3", &[2, 4]),
            Ok((vec![2, 2], vec![(1, 2), (5, 2)]))
        );
        assert_eq!(
            select("::2", &[5]),
            Ok((vec![3], vec![(0, 1), (2, 1), (4, 1)]))
        );
        assert_eq!(
            select("::2", &[3, 2]),
            Ok((vec![2, 2], vec![(0, 2), (4, 2)]))
        );
        assert_eq!(
            select("..., -1", &[2, 3]),
            Ok((vec![2], vec![(2, 1), (5, 1)]))
        );
        assert_eq!(select("5:2", &[9]), Ok((vec![0], vec![])));
    }

    #[test]
    fn huge_integers_clamp_or_are_out_of_range() {
        let huge = "9".repeat(60);
        assert_eq!(
            select(&format!("-{huge}:{huge}:{huge}"), &[4]),
            Ok((vec![1], vec![(0, 1)]))
        );
        assert!(matches!(
            select(&huge, &[4]),
            Err(Error::SliceIndex {
                axis: 0,
                size: 4,
                ..
            })
        ));
        assert!(matches!(
            select(&format!("-{huge}"), &[4]),
            Err(Error::SliceIndex { .. })
        ));
        let most = i64::MAX as u64;
        assert_eq!(select("-1", &[most]), Ok((vec![], vec![(most - 1, 1)])));
    }

    #[test]
    fn what_numpy_has_and_slices_have_not_is_refused_by_name() {
        for text in ["None", "newaxis, 0", "[[0]]", "(1)", "True", "0, [1]"] {
            assert!(
                matches!(
                    parse(text),
                    Err(Error::SliceUnsupported(_) | Error::SliceSyntax { .. })
                ),
                "{text}"
            );
        }
        for (text, list) in [
            ("[0,1]", "0,1"),
            ("[3]", "3"),
            ("[1, 2], 0", "1, 2"),
            (" [0, -1,] ", "0, -1,"),
        ] {
            assert_eq!(parse(text), Err(Error::SliceList(list.into())));
        }
        assert_eq!(
            parse("[0,1]").unwrap_err().hint().as_deref(),
            Some("SELECT modelstore.slice(tensor, '0,1');")
        );
        assert_eq!(parse("[[0,1]]"), Err(Error::SliceUnsupported("[".into())));
        assert_eq!(parse("None"), Err(Error::SliceUnsupported("None".into())));
        assert_eq!(parse("::-1"), Err(Error::SliceStep(-1)));
        assert_eq!(parse("1:2:0"), Err(Error::SliceStep(0)));
        assert_eq!(parse("..., ..."), Err(Error::SliceEllipsis));
        for (text, found, position) in [
            ("", "end of text", 1),
            ("[0", "end of text", 3),
            ("0:x", "x", 3),
            ("é", "é", 1),
            ("0,,1", ",", 3),
            ("0]", "]", 2),
            ("--1", "-", 1),
            ("1:2:3:4", ":", 6),
        ] {
            assert_eq!(
                parse(text),
                Err(Error::SliceSyntax {
                    found: found.into(),
                    position
                }),
                "{text}"
            );
        }
        assert_eq!(
            select("0,0", &[3]),
            Err(Error::SliceRank { given: 2, rank: 1 })
        );
        assert!(parse(&"0,".repeat(40)).is_err());
    }
}
