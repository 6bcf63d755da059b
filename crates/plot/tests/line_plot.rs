//! Plots as documents: well-formed, complete and small. With `PLOT_DIR` set, the pictures are left there to look at.
#![allow(clippy::unwrap_used)]

use modelstore_plot::{Error, LinePlot, Series};
use proptest::prelude::*;
use roxmltree::{Document, Node};

const PLAIN: LinePlot<'static> = LinePlot {
    title: "Training",
    x_label: "step",
    y_label: "loss (nats)",
    series: &[],
    log_y: false,
    limits: (None, None),
    width: 800,
    height: 450,
};

fn draw(name: &str, plot: &LinePlot<'_>) -> String {
    let svg = plot.svg().unwrap();
    if let Ok(dir) = std::env::var("PLOT_DIR") {
        std::fs::write(format!("{dir}/{name}.svg"), &svg).unwrap();
    }
    let document = Document::parse(&svg).unwrap();
    let root = document.root_element();
    assert_eq!(
        root.attribute("width"),
        Some(plot.width.to_string().as_str())
    );
    assert_eq!(
        root.attribute("height"),
        Some(plot.height.to_string().as_str())
    );
    check_inside(&document, plot);
    assert_eq!(plot.svg().unwrap(), svg, "the same input draws the same");
    svg
}

/// Every coordinate is a number inside the picture.
fn check_inside(document: &Document<'_>, plot: &LinePlot<'_>) {
    let inside = |text: &str, size: u32| {
        let value: f64 = text.parse().unwrap();
        assert!((0.0..=f64::from(size * 10)).contains(&value), "{text}");
    };
    for node in document.descendants() {
        for (name, size) in [
            ("x", plot.width),
            ("cx", plot.width),
            ("y", plot.height),
            ("cy", plot.height),
        ] {
            if let Some(value) = node.attribute(name) {
                inside(value, size);
            }
        }
        for pair in node.attribute("points").unwrap_or("").split_whitespace() {
            let (x, y) = pair.split_once(',').unwrap();
            inside(x, plot.width);
            inside(y, plot.height);
        }
    }
}

fn with_stroke<'a>(document: &'a Document<'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    document
        .descendants()
        .filter(|n| n.has_tag_name("polyline"))
}

/// Lines with the number of points of each, and dots.
fn shapes(svg: &str) -> (Vec<usize>, usize) {
    let document = Document::parse(svg).unwrap();
    let points = |n: Node<'_, '_>| n.attribute("points").unwrap().split_whitespace().count();
    let lines = with_stroke(&document).map(points).collect();
    let dots = document
        .descendants()
        .filter(|n| n.has_tag_name("circle"))
        .count();
    (lines, dots)
}

fn texts(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|n| n.has_tag_name("text"));
    texts
        .map(|n| n.text().unwrap_or("").trim().to_owned())
        .collect()
}

fn one(points: &[(f64, f64)]) -> [Series<'_>; 1] {
    [Series {
        name: "loss",
        points,
        mark: None,
    }]
}

fn curve(n: usize, f: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    (0..n).map(|i| (i as f64, f(i as f64))).collect()
}

/// Between -0.5 and 0.5, without a pattern to the eye.
fn jitter(x: f64) -> f64 {
    let y = (x * 12.9898).sin() * 43758.5453;
    y - y.floor() - 0.5
}

#[test]
fn losses_are_drawn_with_a_legend() {
    let train = curve(2000, |x| 2.0 * (-x / 300.0).exp() + 0.4 + 0.1 * jitter(x));
    let test = curve(40, |x| 2.1 * (-x * 50.0 / 350.0).exp() + 0.6);
    let test: Vec<(f64, f64)> = test.iter().map(|p| (p.0 * 50.0, p.1)).collect();
    let rate = curve(2000, |x| 1e-3 * (x / 200.0).min(1.0));
    let series = [
        Series {
            name: "training loss",
            points: &train,
            mark: None,
        },
        Series {
            name: "validation loss",
            points: &test,
            mark: None,
        },
    ];
    let svg = draw(
        "losses",
        &LinePlot {
            series: &series,
            ..PLAIN
        },
    );
    let texts = texts(&svg);
    for text in [
        "Training",
        "step",
        "loss (nats)",
        "training loss",
        "validation loss",
        "0.5",
        "1000",
    ] {
        assert!(texts.iter().any(|t| t == text), "{text} in {texts:?}");
    }
    draw(
        "losses_log",
        &LinePlot {
            series: &series,
            log_y: true,
            ..PLAIN
        },
    );
    draw(
        "one_series",
        &LinePlot {
            series: &one(&rate),
            y_label: "learning rate",
            ..PLAIN
        },
    );
    let wide = one(&train);
    assert!(
        !texts_of(&LinePlot {
            series: &wide,
            ..PLAIN
        })
        .contains(&"loss".to_owned()),
        "no legend for one"
    );
    draw(
        "small",
        &LinePlot {
            series: &series,
            width: 240,
            height: 160,
            ..PLAIN
        },
    );
    draw(
        "tiny",
        &LinePlot {
            series: &series,
            width: 64,
            height: 64,
            ..PLAIN
        },
    );
    draw(
        "large",
        &LinePlot {
            series: &series,
            width: 8192,
            height: 8192,
            ..PLAIN
        },
    );
}

fn texts_of(plot: &LinePlot<'_>) -> Vec<String> {
    texts(&plot.svg().unwrap())
}

#[test]
fn many_series_and_long_names_fit() {
    let curves: Vec<Vec<(f64, f64)>> = (0..30)
        .map(|k| {
            curve(200, |x| {
                (x / 20.0 + f64::from(k)).sin() * 1e9 + f64::from(k) * 2e8
            })
        })
        .collect();
    let names: Vec<String> = (0..30)
        .map(|k| format!("run {k} {}", "with a long name ".repeat(k % 4)))
        .collect();
    let series: Vec<Series<'_>> = names
        .iter()
        .zip(&curves)
        .map(|(name, points)| Series {
            name,
            points,
            mark: None,
        })
        .collect();
    let long = "A title that is much too long for the width of this plot ".repeat(4);
    let plot = LinePlot {
        title: &long,
        x_label: &long,
        y_label: &long,
        series: &series,
        ..PLAIN
    };
    let svg = draw("many", &plot);
    let texts = texts(&svg);
    assert!(
        texts
            .iter()
            .any(|t| t.starts_with("+ ") && t.ends_with(" more")),
        "{texts:?}"
    );
    draw(
        "seven",
        &LinePlot {
            series: &series[..7],
            ..plot
        },
    );
}

#[test]
fn gaps_are_not_bridged() {
    let nan = f64::NAN;
    let points = [
        (0.0, 1.0),
        (1.0, 2.0),
        (2.0, nan),
        (3.0, 3.0),
        (4.0, f64::INFINITY),
        (5.0, 2.0),
        (6.0, 4.0),
        (7.0, 3.0),
        (nan, 3.0),
        (9.0, 1.0),
        (10.0, 2.5),
    ];
    let svg = draw(
        "gaps",
        &LinePlot {
            series: &one(&points),
            ..PLAIN
        },
    );
    assert_eq!(shapes(&svg), (vec![2, 3, 2], 1));
    let points = [
        (0.0, 1.0),
        (1.0, 10.0),
        (2.0, 0.0),
        (3.0, 1000.0),
        (4.0, -1.0),
        (5.0, 5.0),
        (6.0, 50.0),
    ];
    let svg = draw(
        "log_gaps",
        &LinePlot {
            series: &one(&points),
            log_y: true,
            ..PLAIN
        },
    );
    assert_eq!(shapes(&svg), (vec![2, 2], 1));
}

#[test]
fn odd_data_is_drawn() {
    let nan = f64::NAN;
    type Case<'a> = (&'a str, &'a [(f64, f64)], usize);
    let cases: [Case<'_>; 8] = [
        ("empty", &[], 0),
        ("nothing_finite", &[(nan, 1.0), (1.0, nan)], 0),
        ("single", &[(1000.0, 0.25)], 1),
        ("equal_y", &[(0.0, 3.0), (1.0, 3.0), (2.0, 3.0)], 1),
        ("equal_x", &[(1.0, 1.0), (1.0, 2.0)], 1),
        ("huge", &[(0.0, 1e-300), (1.0, 1e300)], 1),
        (
            "extreme",
            &[(f64::MIN, f64::MAX), (0.0, 0.0), (f64::MAX, f64::MIN)],
            1,
        ),
        ("subnormal", &[(0.0, 5e-324), (1.0, 1e-323)], 1),
    ];
    for (name, points, count) in cases {
        for log_y in [false, true] {
            let name = format!("odd_{name}{}", if log_y { "_log" } else { "" });
            let svg = draw(
                &name,
                &LinePlot {
                    series: &one(points),
                    log_y,
                    ..PLAIN
                },
            );
            let (lines, dots) = shapes(&svg);
            assert_eq!(lines.len() + dots, count, "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        }
    }
    draw("no_series", &PLAIN);
    let offset = curve(50, |x| 1e9 + x);
    draw(
        "far_from_zero",
        &LinePlot {
            series: &one(&offset),
            ..PLAIN
        },
    );
}

#[test]
fn large_series_stay_small_and_keep_spikes() {
    let mut points = curve(100_000, |x| (x / 9000.0).sin() + 0.3 * jitter(x));
    points[54_321].1 = 9.0;
    points[70_000].1 = -7.0;
    let series = [
        Series {
            name: "a",
            points: &points,
            mark: None,
        },
        Series {
            name: "b",
            points: &points,
            mark: None,
        },
    ];
    let svg = draw(
        "large_series",
        &LinePlot {
            series: &series[..1],
            ..PLAIN
        },
    );
    assert!(svg.len() < 50_000, "{}", svg.len());
    let document = Document::parse(&svg).unwrap();
    let line = with_stroke(&document)
        .next()
        .unwrap()
        .attribute("points")
        .unwrap();
    let heights = || {
        line.split_whitespace()
            .map(|p| p.split_once(',').unwrap().1.parse::<i32>().unwrap())
    };
    let (high, low) = (heights().min().unwrap(), heights().max().unwrap());
    // Both spikes use all of the height but the margins of 4 %.
    let spikes = f64::from(low - high) / 10.0;
    assert!(spikes > 300.0, "{spikes}");
    let near = |y: i32| heights().filter(|h| (h - y).abs() < 500).count();
    assert_eq!((near(high), near(low)), (1, 1));
    for (i, point) in points.iter_mut().enumerate() {
        if i % 2 == 0 {
            point.1 = f64::NAN;
        }
    }
    let series = one(&points);
    let svg = draw(
        "large_gaps",
        &LinePlot {
            series: &series,
            ..PLAIN
        },
    );
    assert!(svg.len() < 200_000, "{}", svg.len());
}

#[test]
fn text_is_escaped() {
    let name = r#"<script>alert("x")</script> & 'y' — Größe 訓練 🚀"#;
    let points = [(0.0, 1.0), (1.0, 2.0)];
    let series = [
        Series {
            name,
            points: &points,
            mark: None,
        },
        Series {
            name: "a\u{0}\u{b}\u{fffe}",
            points: &points,
            mark: None,
        },
    ];
    let plot = LinePlot {
        title: name,
        x_label: name,
        y_label: "]]>&amp;",
        series: &series,
        ..PLAIN
    };
    let svg = draw("escaped", &plot);
    let texts = texts(&svg);
    assert!(texts.iter().any(|t| t == name), "{texts:?}");
    assert!(texts.iter().any(|t| t == "]]>&amp;"), "{texts:?}");
    assert!(
        texts.iter().any(|t| t == "a\u{fffd}\u{fffd}\u{fffd}"),
        "{texts:?}"
    );
    assert!(!svg.contains("<script"));
}

#[test]
fn sizes_have_limits() {
    for size in [0, 63, 8193, u32::MAX] {
        let plot = LinePlot {
            width: size,
            ..PLAIN
        };
        assert_eq!(plot.svg(), Err(Error::Size("width", size)));
        let plot = LinePlot {
            height: size,
            ..PLAIN
        };
        assert_eq!(plot.svg(), Err(Error::Size("height", size)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn anything_is_drawn(
        points in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..50),
        name in any::<String>(),
        log_y in any::<bool>(),
        (width, height) in (64u32..1500, 64u32..1500),
    ) {
        let series = [Series { name: &name, points: &points, mark: None }, Series { name: "", points: &[], mark: None }];
        draw("any", &LinePlot { title: &name, x_label: &name, y_label: &name, series: &series, log_y, limits: (None, None), width, height });
    }
}

#[test]
fn limits_and_marks() {
    let points: Vec<(f64, f64)> = (0..100)
        .map(|i| (f64::from(i), f64::from(i) / 10.0))
        .collect();
    let plot = |limits, mark| {
        let series = [Series {
            name: "a",
            points: &points,
            mark,
        }];
        LinePlot {
            series: &series,
            limits,
            ..PLAIN
        }
        .svg()
    };
    let dots = |svg: &str| svg.matches("<circle").count();
    let whole = plot((None, None), None).unwrap();
    assert_eq!(dots(&whole), 0);
    // The mark is the only dot; one outside the limits is not drawn.
    assert_eq!(dots(&plot((None, None), Some((50.0, 5.0))).unwrap()), 1);
    assert_eq!(
        dots(&plot((None, Some(4.0)), Some((50.0, 5.0))).unwrap()),
        0
    );
    // The axis goes to the limits, beyond the points as well.
    let ticks = |svg: &str| {
        texts(svg)
            .into_iter()
            .filter_map(|t| t.parse::<f64>().ok())
            .collect::<Vec<_>>()
    };
    assert!(ticks(&plot((Some(-10.0), Some(20.0)), None).unwrap()).contains(&20.0));
    assert!(!ticks(&plot((None, Some(3.0)), None).unwrap()).contains(&8.0));
    for (limits, error) in [
        (
            (Some(2.0), Some(2.0)),
            Error::Limits("2".into(), "2".into()),
        ),
        ((Some(f64::NAN), None), Error::Limit("NaN".into())),
        ((None, Some(f64::INFINITY)), Error::Limit("inf".into())),
    ] {
        assert_eq!(plot(limits, None), Err(error));
    }
    let log = LinePlot {
        log_y: true,
        limits: (Some(0.0), None),
        ..PLAIN
    };
    assert_eq!(log.svg(), Err(Error::Limit("0".into())));
}
