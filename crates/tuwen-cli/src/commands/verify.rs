//! `verify`: a golden case against what this program computes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use tuwen_tensor::checkpoint::write_safetensors;

use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::labels::plural;
use crate::verify::{Report, Row, verify};

/// Where cases are looked for by name.
const CASE_FOLDERS: [&str; 2] = ["shared/fixtures", "../shared/fixtures"];

/// Arguments of `verify`.
#[derive(Args)]
pub struct Verify {
    /// The folder of a case, or its name below shared/fixtures
    #[arg(value_name = "CASE")]
    case: PathBuf,
    /// Write what was computed to this safetensors file, under the names of the case
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    case: &'a str,
    #[serde(flatten)]
    row: &'a Row,
}

/// Runs `verify`.
pub fn run(arguments: &Verify, console: &Console) -> Result<Status, Failure> {
    let folder = find(&arguments.case)?;
    let name = folder.file_name().map_or_else(|| folder.to_string_lossy(), |name| name.to_string_lossy());
    let report = verify(&folder).map_err(|error| {
        let of_model = error.downcast_ref::<tuwen::Error>().is_some();
        if of_model { Failure::model(error) } else { Failure::usage(error) }
    })?;
    report.notes.iter().for_each(|note| console.note(format_args!("note: {note}")));
    if let Some(path) = &arguments.dump {
        let tensors = report.computed.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        write_safetensors(path, tensors, &BTreeMap::new()).map_err(Failure::usage)?;
    }
    if console.json {
        for row in &report.rows {
            console.print(serde_json::to_string(&Line { case: &name, row })?)?;
        }
    } else {
        console.print(table(&report))?;
    }
    let count = report.rows.len();
    let Some(wrong) = report.first_wrong() else {
        console.note(format_args!("{name}: {count} comparison{} hold", plural(count)));
        return Ok(Status::Done);
    };
    let failed = report.rows.iter().filter(|row| !row.ok).count();
    let reason = match &wrong.note {
        Some(note) => note.clone(),
        None => format!("off by {:.3e}, tolerance {:.1e}", wrong.max_abs, wrong.tolerance),
    };
    console.warn(format_args!("{name}: {failed} of {count} failed, the first is {}: {reason}", wrong.tensor));
    Ok(Status::Check)
}

fn find(case: &Path) -> Result<PathBuf, Failure> {
    let below = CASE_FOLDERS.iter().map(|folder| Path::new(folder).join(case));
    let found = std::iter::once(case.to_owned()).chain(below).find(|path| path.is_dir());
    found.ok_or_else(|| {
        let hint = format!("give the folder of a case, or a name below {}", CASE_FOLDERS.join(" or "));
        Failure::usage(anyhow!("{}: no such case", case.display())).hint(hint)
    })
}

fn table(report: &Report) -> String {
    let width = report.rows.iter().map(|row| row.tensor.len()).max().unwrap_or(0).max("tensor".len());
    let mut lines =
        vec![format!("{:width$}  {:>10}  {:>10}  {:>10}  ok", "tensor", "max_abs", "max_rel", "tolerance")];
    for row in &report.rows {
        let Row { tensor, max_abs, max_rel, tolerance, ok, note, .. } = row;
        let ok = if *ok { "yes" } else { "NO" };
        let note = note.as_ref().map(|note| format!("  ({note})")).unwrap_or_default();
        lines.push(format!(
            "{tensor:width$}  {max_abs:10.3e}  {max_rel:10.3e}  {tolerance:10.1e}  {ok}{note}"
        ));
    }
    lines.join("\n")
}
