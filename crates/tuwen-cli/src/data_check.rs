//! The look at training data: a quick one before each run, a complete one on request.

use serde_json::json;
use tuwen_data::check::{CheckOptions, Finding, SourceReport};
use tuwen_train::Sources;

use crate::console::Console;
use crate::failure::{Failure, Status};

/// Looks at a part of the samples and says what is wrong with them. Training passes over broken ones, so only a source
/// without any use is in the way.
pub fn quick(sources: &Sources, console: &Console) -> Result<(), Failure> {
    let options = CheckOptions { threads: tuwen_kernels::threads(), ..CheckOptions::default() };
    let reports = sources.check(&options, &mut |_| {});
    for report in &reports {
        report.usable().map_err(Failure::usage)?;
        report.faults.iter().for_each(|fault| console.warn(fault));
        report.findings.iter().for_each(|finding| console.note(in_passing(report, finding)));
    }
    let (all, looked_at) = reports
        .iter()
        .fold((0, 0), |(all, looked_at), report| (all + report.samples, looked_at + report.looked_at));
    let clean = reports.iter().all(SourceReport::is_clean);
    let verdict =
        if clean { "nothing wrong was seen" } else { "--check looks at everything and trains nothing" };
    console.note(format!("looked at {looked_at} of {all} samples (of images at the headers): {verdict}"));
    Ok(())
}

/// Decodes every sample and prints what is wrong: a table, or an object for each source.
pub fn complete(sources: &Sources, console: &Console) -> Result<Status, Failure> {
    let options =
        CheckOptions { complete: true, threads: tuwen_kernels::threads(), ..CheckOptions::default() };
    let mut progress = console.progress(sources.samples() as u64, "samples");
    let reports = sources.check(&options, &mut |count| progress.advance(count as u64));
    drop(progress);
    for report in &reports {
        if console.json {
            console.print(json!(report))?;
        } else {
            console.print(table(report))?;
        }
    }
    let clean = reports.iter().all(SourceReport::is_clean);
    Ok(if clean { Status::Done } else { Status::SomeFailed })
}

/// One line for a kind of problem.
fn in_passing(report: &SourceReport, finding: &Finding) -> String {
    let (source, count, looked_at) = (&report.source, finding.count, report.looked_at);
    let example = finding.examples.first().map(String::as_str).unwrap_or_default();
    // The name of the file is there already.
    let example = example.strip_prefix(source.as_str()).unwrap_or(example).trim_start_matches([':', ' ']);
    format!("{source}: {count} of {looked_at} samples {}, such as {example}", finding.problem)
}

/// A source with all that was found.
fn table(report: &SourceReport) -> String {
    let SourceReport { source, samples, usable, findings, faults, .. } = report;
    let mut lines = vec![format!("{source}: {samples} samples, {usable} can be learnt from")];
    lines.extend(faults.iter().map(|fault| format!("{:>8} {fault}", "cut")));
    for finding in findings {
        lines.push(format!("{:>8} {}", finding.count, finding.problem));
        lines.extend(finding.examples.iter().map(|example| format!("{:>8} {example}", "")));
        if finding.count > finding.examples.len() {
            lines.push(format!("{:>8} ...", ""));
        }
    }
    lines.join("\n")
}
