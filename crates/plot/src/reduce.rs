//! Reduces the points of a series to the few that a plot shows.

use std::collections::BTreeMap;

/// A point in drawing units.
pub(crate) type Pixel = (i32, i32);

/// Returns the lines of a series, one for each run of points without a gap; `None` is a gap. Of each run, only its ends
/// and the lowest and the highest point in each column of `column` units are kept. Of runs within one column, those
/// with the lowest and the highest point are kept. So the size of a plot does not grow with the data, as long as points
/// go from left to right.
pub(crate) fn lines(points: impl Iterator<Item = Option<Pixel>>, column: i32) -> Vec<Vec<Pixel>> {
    let mut lines = Vec::new();
    let mut run = Run::default();
    for point in points.chain([None]) {
        match point {
            Some(point) => run.push(point, column),
            None => lines.extend(std::mem::take(&mut run).finish()),
        }
    }
    keep_outermost(lines, column)
}

/// A run of points, reduced as it grows.
#[derive(Default)]
struct Run {
    line: Vec<Pixel>,
    /// The points of the current column.
    open: Option<Open>,
}

struct Open {
    column: i32,
    low: (usize, Pixel),
    high: (usize, Pixel),
    last: Pixel,
    count: usize,
}

impl Run {
    fn push(&mut self, point: Pixel, column: i32) {
        let number = point.0.div_euclid(column);
        if let Some(open) = self.open.as_mut().filter(|open| open.column == number) {
            if point.1 < open.low.1.1 {
                open.low = (open.count, point);
            }
            if point.1 > open.high.1.1 {
                open.high = (open.count, point);
            }
            open.last = point;
            open.count += 1;
            return;
        }
        self.close();
        if self.line.is_empty() {
            self.line.push(point);
        }
        self.open = Some(Open {
            column: number,
            low: (0, point),
            high: (0, point),
            last: point,
            count: 1,
        });
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (first, second) = match open.low.0 < open.high.0 {
            true => (open.low.1, open.high.1),
            false => (open.high.1, open.low.1),
        };
        for point in [first, second] {
            self.add(point);
        }
    }

    fn add(&mut self, point: Pixel) {
        if self.line.last() != Some(&point) {
            self.line.push(point);
        }
    }

    fn finish(mut self) -> Option<Vec<Pixel>> {
        let last = self.open.as_ref().map(|open| open.last)?;
        self.close();
        self.add(last);
        Some(self.line)
    }
}

fn keep_outermost(lines: Vec<Vec<Pixel>>, column: i32) -> Vec<Vec<Pixel>> {
    let column_of = |line: &[Pixel]| {
        let first = line.first()?.0.div_euclid(column);
        let within = line.iter().all(|p| p.0.div_euclid(column) == first);
        within.then_some(first)
    };
    let mut outermost: BTreeMap<i32, [(i32, usize); 2]> = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(column) = column_of(line) else {
            continue;
        };
        let low = line.iter().map(|p| p.1).min().unwrap_or(0);
        let high = line.iter().map(|p| p.1).max().unwrap_or(0);
        let of_column = outermost
            .entry(column)
            .or_insert([(low, index), (high, index)]);
        if low < of_column[0].0 {
            of_column[0] = (low, index);
        }
        if high > of_column[1].0 {
            of_column[1] = (high, index);
        }
    }
    let is_left = |(index, line): &(usize, Vec<Pixel>)| {
        let of_column = column_of(line).and_then(|column| outermost.get(&column));
        of_column.is_none_or(|ends| ends.iter().any(|end| end.1 == *index))
    };
    let left = lines.into_iter().enumerate().filter(is_left);
    left.map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduce(points: &[Option<Pixel>]) -> Vec<Vec<Pixel>> {
        lines(points.iter().copied(), 10)
    }

    #[test]
    fn gaps_part_lines() {
        let points = [
            Some((0, 1)),
            Some((10, 2)),
            None,
            None,
            Some((20, 3)),
            None,
            Some((30, 4)),
            Some((40, 4)),
        ];
        let expected = vec![vec![(0, 1), (10, 2)], vec![(20, 3)], vec![(30, 4), (40, 4)]];
        assert_eq!(reduce(&points), expected);
        assert!(reduce(&[]).is_empty());
        assert!(reduce(&[None]).is_empty());
    }

    #[test]
    fn columns_keep_their_extremes_and_runs_their_ends() {
        let column = [
            (1, 5),
            (2, 9),
            (3, 6),
            (4, 1),
            (5, 4),
            (11, 3),
            (12, 7),
            (13, 3),
            (14, 5),
        ];
        let points = column.map(Some);
        let expected = vec![vec![(1, 5), (2, 9), (4, 1), (11, 3), (12, 7), (14, 5)]];
        assert_eq!(reduce(&points), expected);
    }

    #[test]
    fn of_runs_in_one_column_the_outermost_are_left() {
        let mut points = Vec::new();
        for y in [5, 9, 2, 4, 7] {
            points.extend([Some((3, y)), None]);
        }
        assert_eq!(reduce(&points), vec![vec![(3, 9)], vec![(3, 2)]]);
    }
}
