//! A page with a treemap: each part is an area as large as its share, coloured by kind. It needs nothing from elsewhere.

mod layout;

use std::fmt::Write as _;

use tuwen::params::{Kind, Part, Report, Usage, WhatIf};

use self::layout::{Rect, squarified};
use super::table::{bytes, giga, grouped, percent, sizes};

/// Size of a map in pixels.
const WIDTH: f64 = 1160.0;
const HEIGHT: f64 = 520.0;
/// Height of the line with a group's name.
const TITLE: f64 = 15.0;
/// Space around the parts of a group.
const GAP: f64 = 2.0;

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:24px auto;max-width:1160px;color:#222;background:#fff}\
h1{font-size:20px;margin:0 0 4px}h2{font-size:15px;margin:20px 0 6px}p{margin:4px 0;color:#555}\
svg{display:block;margin-bottom:8px}svg text{font:11px system-ui,sans-serif;pointer-events:none;fill:#222}\
.g{fill:#f4f4f4;stroke:#bbb}.l{stroke:#fff;stroke-width:.6}.l:hover,.g:hover{stroke:#000}\
.k{display:inline-block;width:12px;height:12px;margin:0 4px 0 14px;vertical-align:-1px}\
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}p{color:#aaa}.g{fill:#262626;stroke:#555}\
.g+text{fill:#ddd}}";

/// What areas stand for.
type Weight = fn(&Part) -> f64;

const WEIGHTS: [(&str, Weight); 2] = [
    ("Parameters", |part| part.parameters as f64),
    ("Operations for an image and a text", |part| (part.image.flops + part.text.flops) as f64),
];

/// The page.
pub fn page(model: &str, report: &Report, what_if: Option<&WhatIf>) -> String {
    let mut page = String::new();
    let title = escaped(model);
    let _ = write!(page, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>");
    let _ = write!(page, "<style>{STYLE}</style><h1>{title}</h1><p>{}</p>", summary(report));
    if let Some(what_if) = what_if {
        let changes = escaped(&sizes(&what_if.changes));
        let _ = write!(page, "<p>What if {changes}: {}</p>", summary(&what_if.report));
    }
    let _ = write!(page, "<p>{}</p>", legend(report));
    for (name, weight) in WEIGHTS {
        let before = root(model, report);
        let whole = weight(&before);
        if whole == 0.0 {
            continue;
        }
        let after = what_if.map(|what_if| root("what if", &what_if.report));
        let largest = after.as_ref().map_or(whole, |after| weight(after).max(whole));
        let _ = write!(page, "<h2>{name}</h2>");
        for part in [Some(&before), after.as_ref()].into_iter().flatten() {
            // Areas of both maps are to one scale.
            let scale = (weight(part) / largest).sqrt();
            page += &map(part, weight, Rect { x: 0.0, y: 0.0, width: WIDTH * scale, height: HEIGHT * scale });
        }
    }
    page + "</html>\n"
}

fn summary(report: &Report) -> String {
    let mut text = format!("{} parameters", grouped(report.total));
    if report.image != Usage::default() {
        let training = report.image.training_bytes + report.text.training_bytes;
        let (image, text_flops) = (giga(report.image.flops), giga(report.text.flops));
        let _ = write!(text, ", {image} GFLOP for an image, {text_flops} for a text, ");
        let _ = write!(text, "{} kept in training for both", bytes(training));
    }
    text
}

fn legend(report: &Report) -> String {
    let kind = |share: &tuwen::params::KindShare| {
        let colour = colour(share.kind);
        format!(
            "<span class=\"k\" style=\"background:{colour}\"></span>{} {}",
            share.kind,
            percent(share.share)
        )
    };
    report.kinds.iter().map(kind).collect()
}

fn root(name: &str, report: &Report) -> Part {
    Part {
        path: name.to_owned(),
        parameters: report.total,
        share: 1.0,
        image: report.image,
        text: report.text,
        parts: report.parts.clone(),
        kind: None,
    }
}

fn map(root: &Part, weight: Weight, area: Rect) -> String {
    let (width, height) = (area.width + 2.0, area.height + 2.0);
    let mut svg = format!(
        "<svg role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"-1 -1 {width:.1} {height:.1}\">"
    );
    draw(root, weight, area, &mut svg);
    svg + "</svg>"
}

/// Draws a part: its name over its parts where there is room, else one area.
fn draw(part: &Part, weight: Weight, area: Rect, svg: &mut String) {
    let inner: Vec<&Part> = part.parts.iter().filter(|part| weight(part) > 0.0).collect();
    let room = area.width > 24.0 && area.height > TITLE + 16.0;
    let divided = !inner.is_empty() && room && part.parts.iter().any(|part| !part.parts.is_empty());
    let (class, fill) = if divided { ("g", "") } else { ("l", colour(kind(part))) };
    let Rect { x, y, width, height } = area;
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\""
    );
    if !fill.is_empty() {
        let _ = write!(svg, " fill=\"{fill}\"");
    }
    let _ = write!(svg, "><title>{}</title></rect>", escaped(&tooltip(part)));
    let name = part.path.rsplit('.').next().unwrap_or(&part.path);
    // Letters are about six pixels wide.
    if width > 6.2 * name.chars().count() as f64 + 6.0 && height > TITLE {
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 3.0, y + 11.0, escaped(name));
    }
    if divided {
        let weights: Vec<f64> = inner.iter().map(|part| weight(part)).collect();
        for (part, area) in inner.iter().zip(squarified(&weights, area.inside(GAP, TITLE))) {
            draw(part, weight, area, svg);
        }
    }
}

/// What a part is; where it is several things, the one with most parameters.
fn kind(part: &Part) -> Kind {
    let largest = || part.parts.iter().max_by_key(|part| part.parameters).map(kind);
    part.kind.or_else(largest).unwrap_or(Kind::Other)
}

fn tooltip(part: &Part) -> String {
    let mut text =
        format!("{}\n{} parameters ({})", part.path, grouped(part.parameters), percent(part.share));
    if let Some(kind) = part.kind {
        let _ = write!(text, "\n{kind}");
    }
    for (input, usage) in [("image", &part.image), ("text", &part.text)] {
        if *usage != Usage::default() {
            let _ = write!(
                text,
                "\nper {input}: {} GFLOP, {} kept in training",
                giga(usage.flops),
                bytes(usage.training_bytes)
            );
        }
    }
    text
}

/// Colours that people who see few colours tell apart too (Okabe and Ito 2008).
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Attention => "#56b4e9",
        Kind::Mlp => "#e69f00",
        Kind::Embeddings => "#2fb594",
        Kind::Convolutions => "#d98cb8",
        Kind::Norms => "#f0e442",
        Kind::Projections => "#e0763a",
        Kind::Other => "#aaaaaa",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_part_and_loads_nothing() {
        let leaf = |path: &str, parameters| Part {
            path: path.to_owned(),
            parameters,
            kind: Some(Kind::Mlp),
            ..Part::default()
        };
        let group = Part { parts: vec![leaf("a.x.w", 6), leaf("a.x.b", 1)], ..leaf("a.x", 7) };
        let report = Report {
            total: 10,
            parts: vec![Part { parts: vec![group], ..leaf("a", 7) }, leaf("<b>", 3)],
            ..Report::default()
        };
        let page = page("m & n", &report, None);
        assert!(page.contains("m &amp; n") && page.contains("&lt;b&gt;") && !page.contains("<b>"));
        assert!(page.contains("a.x\n7 parameters"));
        assert!(!page.contains("http") && !page.contains("<script") && !page.contains("url("));
        assert_eq!(page.matches("<svg").count(), 1, "no operations are known");
    }
}
