//! The legend: which names fit, and where it covers least.

use plotters::style::{Color, RGBColor};

use crate::Result;
use crate::canvas::{Anchor, Area, Canvas, SCALE, WHITE, unit};
use crate::reduce::Pixel;
use crate::text;

const FONT_SIZE: f64 = 12.0;
const ROW: f64 = 17.0;
const PADDING: f64 = 6.0;
/// The sample of a line before a name, and the space after it.
const SAMPLE: f64 = 24.0;
/// Samples of lines, four pixels apart, that a legend may cover.
const HIDDEN_AT_MOST: usize = 6;
/// Distance from the edge of the plot.
const DISTANCE: f64 = 8.0;

/// The names of series with their colours. If not all fit, the last row counts the others.
pub(crate) struct Legend {
    rows: Vec<(String, Option<RGBColor>)>,
    width: f64,
    height: f64,
}

impl Legend {
    /// Lays out the legend for a plot; `None` if there is no room.
    pub(crate) fn new(plot: Area, names: &[(&str, RGBColor)]) -> Option<Legend> {
        let room = ((plot.height() * 0.8 - 2.0 * PADDING) / ROW) as usize;
        let text_width = (plot.width() * 0.4 - SAMPLE - 2.0 * PADDING).min(240.0);
        if room == 0 || text_width < 3.0 * FONT_SIZE {
            return None;
        }
        let shown = match names.len() > room {
            true => room - 1,
            false => names.len(),
        };
        let named = names[..shown].iter();
        let mut rows: Vec<(String, Option<RGBColor>)> = named
            .map(|(name, color)| (text::fit(name, FONT_SIZE, text_width), Some(*color)))
            .collect();
        if shown < names.len() {
            rows.push((format!("+ {} more", names.len() - shown), None));
        }
        let widths = rows.iter().map(|(name, _)| text::width(name, FONT_SIZE));
        Some(Legend {
            width: widths.fold(0.0, f64::max) + SAMPLE + 2.0 * PADDING,
            height: rows.len() as f64 * ROW + 2.0 * PADDING,
            rows,
        })
    }

    pub(crate) fn width(&self) -> f64 {
        self.width
    }

    /// Returns the position along the edge of the plot that covers the least of the lines; `None` if even that covers
    /// more than a few pixels of them.
    pub(crate) fn place_within(&self, plot: Area, lines: &[Vec<Vec<Pixel>>]) -> Option<Area> {
        let (area, hidden) = place(plot, self.width, self.height, lines)?;
        (hidden <= HIDDEN_AT_MOST).then_some(area)
    }

    /// Returns the position to the right of the plot.
    pub(crate) fn place_beside(&self, plot: Area) -> Area {
        let left = plot.right + PADDING;
        Area {
            left,
            top: plot.top,
            right: left + self.width,
            bottom: plot.top + self.height,
        }
    }

    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>, area: Area) -> Result<()> {
        canvas.fill(area, WHITE.mix(0.85))?;
        for (row, (name, color)) in self.rows.iter().enumerate() {
            let y = area.top + PADDING + (row as f64 + 0.5) * ROW;
            let x = area.left + PADDING;
            if let Some(color) = color {
                let sample = [(unit(x), unit(y)), (unit(x + SAMPLE - 6.0), unit(y))];
                canvas.path(&sample, *color, 2.5)?;
            }
            canvas.text(name, (x + SAMPLE, y), FONT_SIZE, Anchor::Left)?;
        }
        Ok(())
    }
}

/// Returns the position along the edge of the plot that covers the fewest samples of the lines, and their number.
fn place(plot: Area, width: f64, height: f64, lines: &[Vec<Vec<Pixel>>]) -> Option<(Area, usize)> {
    let left = plot.left + DISTANCE;
    let right = plot.right - DISTANCE - width;
    let top = plot.top + DISTANCE;
    let bottom = plot.bottom - DISTANCE - height;
    let (center, middle) = ((left + right) / 2.0, (top + bottom) / 2.0);
    // In the order of preference.
    let corners = [(right, top), (left, top), (right, bottom), (left, bottom)];
    let edges = [
        (right, middle),
        (left, middle),
        (center, top),
        (center, bottom),
    ];
    let areas = corners.into_iter().chain(edges).map(|(left, top)| Area {
        left,
        top,
        right: left + width,
        bottom: top + height,
    });
    let hidden = |area: &Area| -> usize {
        let within = |&(x, y): &Pixel| {
            let scale = f64::from(SCALE);
            area.contains((f64::from(x) / scale, f64::from(y) / scale))
        };
        let points = |line: &Vec<Pixel>| samples(line).filter(within).count();
        lines.iter().flatten().map(points).sum()
    };
    // The first of equal ones.
    let counted = areas.map(|area| (area, hidden(&area)));
    counted.min_by_key(|(_, hidden)| *hidden)
}

/// Returns points along a line, about four pixels apart.
fn samples(line: &[Pixel]) -> impl Iterator<Item = Pixel> {
    let first = line.first().copied();
    let others = line.windows(2).flat_map(|ends| {
        let [(x, y), (to_x, to_y)] = [ends[0], ends[1]];
        let length = (to_x - x).abs().max((to_y - y).abs());
        let steps = (length / (4 * SCALE)).max(1);
        (1..=steps).map(move |k| {
            let part = f64::from(k) / f64::from(steps);
            let between = |from: i32, to: i32| from + (f64::from(to - from) * part) as i32;
            (between(x, to_x), between(y, to_y))
        })
    });
    first.into_iter().chain(others)
}
