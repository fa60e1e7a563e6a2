//! Panels as an SVG picture.

use std::error::Error;
use std::ops::Range;

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Text};
use plotters::series::LineSeries;
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::{Line, Panel};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Width and height of a panel in pixels, and panels in a row.
const PANEL: (u32, u32) = (560, 300);
const COLUMNS: usize = 2;

/// Width of the column with the names of lines, and the height of one.
const NAMES: u32 = 170;
const NAME: i32 = 18;

/// Colours that people with any sight tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
const TEXT: RGBColor = RGBColor(50, 50, 50);
const GRID: RGBColor = RGBColor(228, 228, 228);

/// Lines of so few points get a dot at each.
const DOTTED: usize = 30;

/// Draws panels, two in a row.
pub(super) fn svg(panels: &[Panel]) -> Result<String> {
    let rows = panels.len().div_ceil(COLUMNS);
    let columns = panels.len().min(COLUMNS);
    let mut svg = String::new();
    {
        let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let all = panels.iter().flat_map(|panel| &panel.lines).flat_map(|line| &line.points);
        let steps = range(all.map(|point| point.0), 0.0);
        for (panel, area) in panels.iter().zip(root.split_evenly((rows, columns))) {
            draw(panel, steps.clone(), &area)?;
        }
        root.present().map_err(text)?;
    }
    Ok(svg)
}

/// The errors of plotters hold what cannot leave a thread.
fn text(error: impl Error) -> Box<dyn Error + Send + Sync> {
    error.to_string().into()
}

/// Draws a panel over these steps, with the names of its lines beside it if there are several.
fn draw(panel: &Panel, steps: Range<f64>, area: &Area) -> Result<()> {
    if panel.lines.len() < 2 {
        return diagram(panel, steps, area);
    }
    let (left, right) = area.split_horizontally(PANEL.0 - NAMES);
    names(panel, &right)?;
    diagram(panel, steps, &left)
}

fn style(size: u32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&TEXT)
}

/// The names of lines from that which ends highest to that which ends lowest, as they lie beside it.
fn names(panel: &Panel, area: &Area) -> Result<()> {
    let end = |line: &Line| line.points.last().map_or(0.0, |point| point.1);
    let mut lines: Vec<_> = panel.lines.iter().zip(colours(panel)).collect();
    lines.sort_by(|(a, _), (b, _)| end(b).total_cmp(&end(a)));
    for ((line, colour), y) in lines.into_iter().zip((0..).map(|number| 50 + NAME * number)) {
        area.draw(&PathElement::new([(0, y), (16, y)], style_of(line, colour))).map_err(text)?;
        area.draw(&Text::new(line.name.as_str(), (22, y - 6), style(12))).map_err(text)?;
    }
    Ok(())
}

fn diagram(panel: &Panel, steps: Range<f64>, area: &Area) -> Result<()> {
    let points = panel.lines.iter().flat_map(|line| &line.points);
    let values = range(points.map(|point| point.1), 0.05);
    let format = |value: &f64| number(*value, values.end - values.start);
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(&panel.title, style(17))
        .x_label_area_size(26)
        .y_label_area_size(62)
        .build_cartesian_2d(steps, values.clone())
        .map_err(text)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(RGBColor(150, 150, 150))
        .label_style(style(12))
        .x_labels(7)
        .y_labels(6)
        .x_label_formatter(&|step| thousands(*step))
        .y_label_formatter(&format)
        .draw()
        .map_err(text)?;
    for (line, colour) in panel.lines.iter().zip(colours(panel)) {
        let series = LineSeries::new(line.points.iter().copied(), style_of(line, colour));
        chart.draw_series(series).map_err(text)?;
        if line.points.len() <= DOTTED {
            let dot = |point: &(f64, f64)| Circle::new(*point, 3, colour.filled());
            chart.draw_series(line.points.iter().map(dot)).map_err(text)?;
        }
    }
    Ok(())
}

/// A faint line has the colour of the one it belongs to.
fn colours(panel: &Panel) -> impl Iterator<Item = RGBColor> {
    let shift = usize::from(panel.lines.first().is_some_and(|line| line.faint));
    (0..panel.lines.len()).map(move |number| COLOURS[number.saturating_sub(shift) % COLOURS.len()])
}

fn style_of(line: &Line, colour: RGBColor) -> ShapeStyle {
    let (opacity, width) = if line.faint { (0.3, 1) } else { (1.0, 2) };
    colour.mix(opacity).stroke_width(width)
}

/// From the least to the greatest value, widened by a part of that, and where they are equal by a part of the value.
fn range(values: impl Iterator<Item = f64>, margin: f64) -> Range<f64> {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (least, most) = values.fold(start, |(least, most), value| (least.min(value), most.max(value)));
    let extent = most - least;
    // Too narrow a range would be labelled with equal numbers.
    if extent <= 1e-9 * most.abs() || extent == 0.0 {
        let around = if most == 0.0 { 1.0 } else { 0.1 * most.abs() };
        return least - around..most + around;
    }
    least - margin * extent..most + margin * extent
}

/// A value of an axis of this extent: as many digits as its labels need to differ.
fn number(value: f64, extent: f64) -> String {
    let largest = extent.max(value.abs());
    if value == 0.0 || value.abs() < 1e-9 * extent {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&largest) {
        format!("{value:.1e}")
    } else {
        let digits = (2.0 - extent.log10()).ceil().clamp(0.0, 6.0) as usize;
        format!("{value:.digits$}")
    }
}

/// Steps: 500, 12k, 1.5M.
fn thousands(step: f64) -> String {
    let short = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match step {
        _ if step >= 1e6 => short(step / 1e6, "M"),
        _ if step >= 1e4 => short(step / 1e3, "k"),
        _ => short(step, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_differ() {
        assert_eq!(
            [number(2.5, 4.0), number(0.0015, 0.002), number(1e-4, 5e-4)],
            ["2.50", "0.00150", "1.0e-4"]
        );
        assert_eq!([number(0.0, 3.0), number(87.0, 100.0), number(2e9, 1e9)], ["0", "87", "2.0e9"]);
        assert_eq!([500.0, 12_000.0, 1.5e6].map(thousands), ["500", "12k", "1.5M"]);
    }

    #[test]
    fn equal_values_have_room_around_them() {
        assert_eq!(range([0.0, 0.0].into_iter(), 0.1), -1.0..1.0);
        assert_eq!(range([10.0].into_iter(), 0.1), 9.0..11.0);
        assert_eq!(range([1.0, 3.0].into_iter(), 0.5), 0.0..4.0);
    }
}
