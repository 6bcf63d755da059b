//! Line plots as SVG.

use plotters::style::{Color, RGBColor};

use crate::axis::Axis;
use crate::canvas::{AXIS, Anchor, Area, Canvas, GRID, SCALE, WHITE, svg, units};
use crate::legend::Legend;
use crate::reduce::{self, Pixel};
use crate::{Error, Result, text};

/// The smallest width and height in pixels.
pub const MIN_SIZE: u32 = 64;

/// The largest width and height in pixels.
pub const MAX_SIZE: u32 = 8192;

/// The colours of Okabe and Ito, which colour-blind readers can distinguish, without the yellow that is hard to see on
/// white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

const TITLE_SIZE: f64 = 15.0;
const LABEL_SIZE: f64 = 12.0;
const TICK_SIZE: f64 = 11.0;
/// Distance from the axis to the tick labels.
const TICK_DISTANCE: f64 = 6.0;

/// One line of a plot.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Points as x and y, drawn in this order. A point with a NaN or an infinity is a gap.
    pub points: &'a [(f64, f64)],
    /// A point that stands out: a larger dot.
    pub mark: Option<(f64, f64)>,
}

/// A plot of lines on common axes.
#[derive(Clone, Copy, Debug)]
pub struct LinePlot<'a> {
    /// Text above the plot; may be empty, like the labels.
    pub title: &'a str,
    /// Text below the horizontal axis, with its unit.
    pub x_label: &'a str,
    /// Text beside the vertical axis, with its unit.
    pub y_label: &'a str,
    /// The lines. Colours repeat from the eighth line on; with more than one line there is a legend.
    pub series: &'a [Series<'a>],
    /// Whether the vertical axis is logarithmic; then values that are not above zero are gaps.
    pub log_y: bool,
    /// The lowest and the highest value shown; points outside are gaps. `None` for as far as the points go.
    pub limits: (Option<f64>, Option<f64>),
    /// The width in pixels, [`MIN_SIZE`] to [`MAX_SIZE`].
    pub width: u32,
    /// The height in pixels, [`MIN_SIZE`] to [`MAX_SIZE`].
    pub height: u32,
}

impl LinePlot<'_> {
    /// Draws the plot as an SVG document.
    ///
    /// No line crosses a gap, and a point between two gaps is a dot. Of many points in one column of pixels the lowest
    /// and the highest are drawn, so that spikes stay visible and the document small.
    pub fn svg(&self) -> Result<String> {
        for (name, size) in [("width", self.width), ("height", self.height)] {
            if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
                return Err(Error::Size(name, size));
            }
        }
        let (low, high) = self.limits;
        for limit in [low, high].into_iter().flatten() {
            if !limit.is_finite() || self.log_y && limit <= 0.0 {
                return Err(Error::Limit(limit.to_string()));
            }
        }
        if let (Some(low), Some(high)) = self.limits
            && low >= high
        {
            return Err(Error::Limits(low.to_string(), high.to_string()));
        }
        svg((self.width, self.height), |canvas| self.draw(canvas))
    }

    fn is_shown(&self, (x, y): (f64, f64)) -> bool {
        let (low, high) = self.limits;
        x.is_finite()
            && y.is_finite()
            && (!self.log_y || y > 0.0)
            && low.is_none_or(|low| y >= low)
            && high.is_none_or(|high| y <= high)
    }

    fn draw(&self, canvas: &mut Canvas<'_>) -> Result<()> {
        let whole = Area {
            left: 0.0,
            top: 0.0,
            right: f64::from(self.width),
            bottom: f64::from(self.height),
        };
        canvas.fill(whole, WHITE.mix(1.0))?;
        let shown = |point: &(f64, f64)| self.is_shown(*point);
        let points = || {
            self.series
                .iter()
                .flat_map(|s| s.points)
                .copied()
                .filter(shown)
        };
        let x_axis = Axis::new(points().map(|p| p.0), false, 0.0);
        let (low, high) = self.limits;
        let values = points().map(|p| p.1).chain(low).chain(high);
        let y_axis = Axis::new(values, self.log_y, 0.04);
        let pixel = |point: &(f64, f64), plot: Area| -> Option<Pixel> {
            let (x, y) = Some(*point).filter(shown)?;
            let x = plot.left + x_axis.place(x)? * plot.width();
            let y = plot.bottom - y_axis.place(y)? * plot.height();
            Some(units((x, y)))
        };
        let lines_in = |plot: Area| -> Vec<Vec<Vec<Pixel>>> {
            let of_one = |series: &Series<'_>| {
                let pixels = series.points.iter().map(|point| pixel(point, plot));
                reduce::lines(pixels, SCALE)
            };
            self.series.iter().map(of_one).collect()
        };
        let colors = || PALETTE.iter().copied().cycle();
        let mut layout = Layout::new(self, &x_axis, &y_axis, 0.0);
        let mut lines = lines_in(layout.plot);
        let mut legend = None;
        if self.series.len() > 1 {
            let names = self.series.iter().map(|s| s.name).zip(colors());
            let names: Vec<(&str, RGBColor)> = names.collect();
            legend = Legend::new(layout.plot, &names).map(|legend| {
                let area = legend.place_within(layout.plot, &lines).unwrap_or_else(|| {
                    layout = Layout::new(self, &x_axis, &y_axis, legend.width());
                    lines = lines_in(layout.plot);
                    legend.place_beside(layout.plot)
                });
                (legend, area)
            });
        }
        layout.draw(canvas, self)?;
        for (lines, color) in lines.iter().zip(colors()) {
            for line in lines {
                match line.as_slice() {
                    [point] => canvas.dot(*point, color, 2.0)?,
                    points => canvas.path(points, color, 1.5)?,
                }
            }
        }
        for (series, color) in self.series.iter().zip(colors()) {
            if let Some(mark) = series.mark.and_then(|mark| pixel(&mark, layout.plot)) {
                canvas.dot(mark, color, 4.0)?;
            }
        }
        match legend {
            Some((legend, area)) => legend.draw(canvas, area),
            None => Ok(()),
        }
    }
}

/// The positions of the parts of a plot.
struct Layout {
    plot: Area,
    x_ticks: Vec<(f64, String)>,
    y_ticks: Vec<(f64, String)>,
    has_titles: bool,
    has_tick_labels: bool,
}

impl Layout {
    /// Shows as much as there is room for: a small plot has no titles, a very small one no tick labels either. `beside`
    /// pixels stay free on the right.
    fn new(plot: &LinePlot<'_>, x_axis: &Axis, y_axis: &Axis, beside: f64) -> Layout {
        let (width, height) = (f64::from(plot.width) - beside, f64::from(plot.height));
        let with = |has_titles, has_tick_labels| {
            Layout::with(plot, (x_axis, y_axis), width, has_titles, has_tick_labels)
        };
        let is_roomy = |layout: &Layout| {
            layout.plot.width() >= width * 0.5 && layout.plot.height() >= height * 0.5
        };
        let choices = [(true, true), (false, true)];
        let mut layouts = choices
            .into_iter()
            .map(|(titles, ticks)| with(titles, ticks));
        layouts.find(is_roomy).unwrap_or_else(|| with(false, false))
    }

    fn with(
        plot: &LinePlot<'_>,
        (x_axis, y_axis): (&Axis, &Axis),
        width: f64,
        has_titles: bool,
        has_tick_labels: bool,
    ) -> Layout {
        let height = f64::from(plot.height);
        let room_for = |label: &str, room: f64| {
            if has_titles && !label.trim().is_empty() {
                room
            } else {
                0.0
            }
        };
        let tick_height = if has_tick_labels {
            TICK_DISTANCE + TICK_SIZE
        } else {
            0.0
        };
        let top = 10.0 + room_for(plot.title, TITLE_SIZE + 9.0);
        let bottom = height - 8.0 - tick_height - room_for(plot.x_label, LABEL_SIZE + 8.0);
        let y_ticks = y_axis.ticks(((bottom - top) / 45.0).clamp(2.0, 12.0) as usize);
        let widest = |ticks: &[(f64, String)]| {
            let widths = ticks.iter().map(|(_, label)| text::width(label, TICK_SIZE));
            if has_tick_labels {
                widths.fold(0.0, f64::max)
            } else {
                0.0
            }
        };
        let tick_width = widest(&y_ticks) + if has_tick_labels { TICK_DISTANCE } else { 0.0 };
        let left = 8.0 + tick_width + room_for(plot.y_label, LABEL_SIZE + 8.0);
        let mut count = ((width - left) / 70.0).clamp(2.0, 14.0) as usize;
        // The width of the labels is known only after they are made.
        let (x_ticks, margin) = loop {
            let ticks = x_axis.ticks(count);
            let widest = widest(&ticks);
            let room = width - left - widest / 2.0;
            if count <= 1 || (widest + 12.0) * ticks.len() as f64 <= room {
                break (ticks, (widest / 2.0 + 4.0).max(14.0));
            }
            count -= 1;
        };
        Layout {
            plot: Area {
                left,
                top,
                right: width - margin,
                bottom,
            },
            x_ticks,
            y_ticks,
            has_titles,
            has_tick_labels,
        }
    }

    fn draw(&self, canvas: &mut Canvas<'_>, titles: &LinePlot<'_>) -> Result<()> {
        let plot = self.plot;
        for (place, label) in &self.x_ticks {
            let x = plot.left + place * plot.width();
            canvas.line((x, plot.top), (x, plot.bottom), GRID)?;
            if self.has_tick_labels {
                let y = plot.bottom + TICK_DISTANCE + TICK_SIZE / 2.0;
                canvas.text(label, (x, y), TICK_SIZE, Anchor::Center)?;
            }
        }
        for (place, label) in &self.y_ticks {
            let y = plot.bottom - place * plot.height();
            canvas.line((plot.left, y), (plot.right, y), GRID)?;
            if self.has_tick_labels {
                canvas.text(
                    label,
                    (plot.left - TICK_DISTANCE, y),
                    TICK_SIZE,
                    Anchor::Right,
                )?;
            }
        }
        canvas.line((plot.left, plot.top), (plot.left, plot.bottom), AXIS)?;
        canvas.line((plot.left, plot.bottom), (plot.right, plot.bottom), AXIS)?;
        if !self.has_titles {
            return Ok(());
        }
        let (width, height) = (f64::from(titles.width), f64::from(titles.height));
        let center = (plot.left + plot.right) / 2.0;
        let middle = (plot.top + plot.bottom) / 2.0;
        // Twice the distance to the nearer edge, as the text is centred on the plot.
        let wide = 2.0 * center.min(width - center) - 8.0;
        let high = 2.0 * middle.min(height - middle) - 8.0;
        let below = height - 6.0 - LABEL_SIZE / 2.0;
        let labels = [
            (
                titles.title,
                (center, 7.0 + TITLE_SIZE / 2.0),
                TITLE_SIZE,
                wide,
                Anchor::Center,
            ),
            (
                titles.x_label,
                (center, below),
                LABEL_SIZE,
                wide,
                Anchor::Center,
            ),
            (
                titles.y_label,
                (6.0 + LABEL_SIZE / 2.0, middle),
                LABEL_SIZE,
                high,
                Anchor::Upwards,
            ),
        ];
        for (label, at, size, room, anchor) in labels {
            if !label.trim().is_empty() {
                canvas.text(&text::fit(label, size, room), at, size, anchor)?;
            }
        }
        Ok(())
    }
}
