//! The report of a job: one page that needs nothing from elsewhere.

mod examples;
mod histogram;

use std::fmt::Write as _;

use tuwen_data::dataset::Access;

use self::histogram::Histogram;
use super::tally::{Tally, TextTally};
use super::{Settings, Summary};

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:24px auto;max-width:1080px;padding:0 12px;color:#222;\
background:#fff}h1{font-size:20px}h2{font-size:16px;margin:26px 0 8px}table{border-collapse:collapse}\
td,th{padding:3px 14px 3px 0;text-align:right}td:first-child,th:first-child{text-align:left}th{color:#666;font-weight:500}\
.charts,.cards{display:flex;flex-wrap:wrap;gap:14px}.card{width:160px;font-size:12px;overflow-wrap:anywhere}\
.card img,.none{display:block;width:160px;height:120px;object-fit:contain;background:#eee}\
.card small{color:#666}figure{margin:0}figcaption{color:#666;font-size:12px}svg text{font:10px system-ui,sans-serif;fill:#666}\
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}.card img,.none{background:#333}}";

/// The page. Pictures of the examples are read from the sources once more; where they are gone, the words have to do.
pub(super) fn report(settings: &Settings, summary: &Summary, access: &Access) -> String {
    let tally = &summary.tally;
    let mut page = String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    let _ = write!(page, "<title>CapFilt</title><style>{STYLE}</style><h1>CapFilt</h1>");
    page += &introduction(settings, summary);
    page += &counts(tally);
    page += &texts(tally);
    page += "<h2>Scores</h2><div class=\"charts\">";
    charts(settings, tally).iter().for_each(|chart| page += &chart.svg());
    page += "</div>";
    page += &examples::sections(tally, access);
    page += &problems(summary);
    page + "</html>\n"
}

fn introduction(settings: &Settings, summary: &Summary) -> String {
    let filter = escaped(&settings.filter.name);
    let captioner = match &settings.captioner {
        Some(captioner) => format!("{} wrote captions, ", escaped(&captioner.name)),
        None => "no captions were written, ".into(),
    };
    let threshold = |name, threshold: Option<f32>| Some(format!("{name} of at least {}", threshold?));
    let rule =
        [threshold("a match probability", settings.rule.itm), threshold("a cosine", settings.rule.itc)];
    let rule: Vec<String> = rule.into_iter().flatten().collect();
    format!(
        "<p>{captioner}{filter} scored all texts; kept are those with {}. Seed {}, {} shards.</p>",
        rule.join(" and "),
        settings.seed,
        summary.shards
    )
}

fn counts(tally: &Tally) -> String {
    let row =
        |name: &str, count: u64| format!("<tr><td>{name}<td>{count}<td>{}", percent(count, tally.samples));
    let rows = [
        row("samples", tally.samples),
        row("kept with at least one text", tally.kept),
        row("came without a text", tally.without_text),
        row("came without an image", tally.without_image),
        row("could not be read", tally.failed),
        row("repeat the key of another", tally.duplicate_keys),
    ];
    format!("<h2>Samples</h2><table>{}</table>", rows.concat())
}

fn texts(tally: &Tally) -> String {
    let row = |name: &str, texts: &TextTally| {
        let dropped = texts.texts - texts.kept;
        let (kept, gone) = (percent(texts.kept, texts.texts), percent(dropped, texts.texts));
        let TextTally { texts: all, kept: count, cut, .. } = texts;
        format!("<tr><td>{name}<td>{all}<td>{count}<td>{kept}<td>{dropped}<td>{gone}<td>{cut}")
    };
    let rows = [row("from the web", &tally.web), row("synthetic", &tally.synthetic)].concat();
    let head = "<tr><th>texts<th>all<th>kept<th><th>dropped<th><th>scored by their beginning, too long";
    format!("<h2>Texts</h2><table>{head}{rows}</table>")
}

fn charts<'t>(settings: &Settings, tally: &'t Tally) -> Vec<Histogram<'t>> {
    let of = |name, texts: &'t TextTally| {
        let rule = &settings.rule;
        let itm = Histogram {
            title: format!("match probability of {name}"),
            bins: &texts.itm,
            range: [0.0, 1.0],
            threshold: rule.itm,
        };
        let itc = Histogram {
            title: format!("cosine of {name}"),
            bins: &texts.itc,
            range: [-1.0, 1.0],
            threshold: rule.itc,
        };
        [itm, itc]
    };
    let charts = [of("texts from the web", &tally.web), of("synthetic texts", &tally.synthetic)];
    charts.into_iter().flatten().filter(|chart| !chart.bins.is_empty()).collect()
}

fn problems(summary: &Summary) -> String {
    let list = |title: &str, problems: &[[String; 2]]| match problems {
        [] => String::new(),
        problems => {
            let line = |[what, why]: &[String; 2]| format!("<li>{}: {}", escaped(what), escaped(why));
            let lines: String = problems.iter().map(line).collect();
            format!("<h2>{title}</h2><ul>{lines}</ul>")
        }
    };
    let damaged = list("Files that could not be read", &summary.damaged);
    damaged + &list("Samples that could not be read (the first)", &summary.tally.reasons)
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capfilt::{Example, Format, JudgedText, ModelId, Rule, TextSource};

    fn settings() -> Settings {
        let model =
            |name: &str| ModelId { name: name.into(), fingerprint: "f".into(), precision: "f32".into() };
        Settings {
            captioner: Some(model("<b>captioner</b>")),
            filter: model("filter"),
            generation: serde_json::Value::Null,
            rule: Rule { itm: Some(0.5), itc: None },
            seed: 3,
            format: Format::WebDataset,
            shard_size: 10,
            batch_size: 2,
            exact_decode: false,
        }
    }

    #[test]
    fn the_page_tells_counts_scores_and_examples() {
        let text = JudgedText { itm: Some(0.75), kept: true, ..JudgedText::web("a <script> dog".into()) };
        assert_eq!(text.source, TextSource::Web);
        let example = Example { draw: 0, source: "none.tar".into(), index: 0, key: "k\"1".into(), text };
        let web = TextTally {
            texts: 4,
            kept: 1,
            cut: 17,
            itm: vec![3, 1],
            examples_kept: vec![example],
            ..TextTally::default()
        };
        let reasons = vec![["k2".to_owned(), "cut off".to_owned()]];
        let tally = Tally { samples: 4, kept: 1, failed: 1, reasons, web, ..Tally::default() };
        let page =
            report(&settings(), &Summary { shards: 1, damaged: Vec::new(), tally }, &Access::default());
        for expected in
            ["25.0 %", "a &lt;script&gt; dog", "<svg", "at least 0.5", "k2: cut off", "0.750", "<td>17"]
        {
            assert!(page.contains(expected), "{expected} in {page}");
        }
        assert!(!page.contains("<script>") && !page.contains("<b>") && !page.contains("http"));
    }
}
