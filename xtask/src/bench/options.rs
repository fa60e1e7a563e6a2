//! The command line of `cargo xtask bench`.

use std::path::PathBuf;
use std::str::FromStr;

use super::plan;

/// What can be said.
pub const USAGE: &str =
    "cargo xtask bench [--stages A,B] [--models A,B] [--precisions A,B] [--batch 1,16] [--peers A,B|none]
    [--rounds N] [--seconds S] [--threads N] [--python PATH]";

/// What is measured, and how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Stages, all unless named.
    pub stages: Vec<String>,
    /// Models, all unless named.
    pub models: Vec<String>,
    /// Precisions, all unless named.
    pub precisions: Vec<String>,
    /// Images that are encoded together.
    pub batch: Vec<usize>,
    /// Peers; all unless named.
    pub peers: Option<Vec<String>>,
    /// Times that everyone has a turn.
    pub rounds: usize,
    /// Length of a turn, without loading.
    pub seconds: f64,
    /// Threads of everyone.
    pub threads: usize,
    /// A Python that has the peers; one is made unless given.
    pub python: Option<PathBuf>,
}

impl Options {
    /// Reads the words behind `bench`.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut options = Self {
            stages: owned(&plan::STAGES),
            models: owned(&plan::MODELS),
            precisions: owned(&plan::PRECISIONS),
            batch: vec![1, 16],
            peers: None,
            rounds: 3,
            seconds: 3.0,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            python: None,
        };
        let mut words = arguments.iter();
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option} takes a value\nusage: {USAGE}"))?;
            match option.as_str() {
                "--stages" => options.stages = known(option, value, &plan::STAGES)?,
                "--models" => options.models = known(option, value, &plan::MODELS)?,
                "--precisions" => options.precisions = known(option, value, &plan::PRECISIONS)?,
                "--batch" => {
                    options.batch = value.split(',').map(|n| number(option, n)).collect::<Result<_, _>>()?
                }
                "--peers" if value == "none" => options.peers = Some(Vec::new()),
                "--peers" => options.peers = Some(value.split(',').map(str::to_owned).collect()),
                "--rounds" => options.rounds = number(option, value)?,
                "--seconds" => options.seconds = number(option, value)?,
                "--threads" => options.threads = number(option, value)?,
                "--python" => options.python = Some(value.into()),
                _ => return Err(format!("no option {option}\nusage: {USAGE}")),
            }
        }
        if options.rounds == 0 || options.threads == 0 || options.batch.contains(&0) {
            return Err("rounds, threads and batches are at least 1".to_owned());
        }
        Ok(options)
    }
}

fn number<T: FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option}: {text:?} is no number"))
}

fn known(option: &str, value: &str, names: &[&str]) -> Result<Vec<String>, String> {
    let check = |name: &str| match names.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{option}: no {name:?}; there are {}", names.join(", "))),
    };
    value.split(',').map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let options = parse("--stages train_step --rounds 2 --batch 1,8 --peers torch,ort").expect("valid");
        assert_eq!((options.stages.len(), options.rounds, options.models.len()), (1, 2, plan::MODELS.len()));
        assert_eq!(options.batch, [1, 8]);
        assert_eq!(options.peers, Some(vec!["torch".to_owned(), "ort".to_owned()]));
        assert_eq!(parse("--peers none").expect("valid").peers, Some(vec![]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, said) in [
            ("--stages encode", "there are encode_image"),
            ("--rounds many", "is no number"),
            ("--rounds 0", "at least 1"),
            ("--rounds", "takes a value"),
            ("--colour red", "no option --colour"),
        ] {
            assert!(parse(line).is_err_and(|message| message.contains(said)), "{line}");
        }
    }
}
