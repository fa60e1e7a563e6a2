//! The command line: options that every verb understands, and the verbs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tuwen::Precision;

use crate::commands::{
    ask, bench, capfilt, caption, classify, completions, convert, embed, eval, man, r#match, params, pull,
    train, verify,
};

/// Vision-language models on images and texts: embed, classify, match, caption, ask, train.
#[derive(Parser)]
#[command(name = "tuwen", version, propagate_version = true, subcommand_required = true)]
#[command(after_help = "Exit status: 0 all done; 1 done, but some inputs failed; 2 wrong usage; \
    3 the model could not be loaded; 4 a check did not hold.")]
pub struct Arguments {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Args)]
pub struct Global {
    /// The model: a directory, a checkpoint file, a hub id in the local cache, builtin-clip or builtin-blip [default: the built-in one that serves the task]
    #[arg(long, global = true, value_name = "MODEL")]
    pub model: Option<String>,
    /// A LoRA adapter in peft's layout to merge into the model: a directory or a hub id in the local cache
    #[arg(long, global = true, value_name = "ADAPTER")]
    pub adapter: Option<String>,
    /// Where downloaded models lie [default: the cache of the Hugging Face hub]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Fetch the model from the Hugging Face hub where the cache does not hold it
    #[arg(long, global = true)]
    pub download: bool,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress and no notes
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to compute with [default: one for each core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where to compute: cpu
    #[arg(long, global = true, default_value = "cpu", value_name = "DEVICE", value_parser = device)]
    _device: Device,
    /// Arithmetic of inference: f32, bf16, int8, or auto, the fastest that keeps vectors within a cosine of 0.9999
    #[arg(long, global = true, default_value = "auto", value_name = "PRECISION", value_parser = precision)]
    pub precision: Arithmetic,
}

/// The verbs.
#[derive(Subcommand)]
pub enum Verb {
    /// Turn images and texts into vectors
    Embed(embed::Embed),
    /// Say which of some labels fits an image best
    Classify(classify::Classify),
    /// Compare images with texts
    Match(r#match::Match),
    /// Say in words what images show
    Caption(caption::Caption),
    /// Answer a question about images
    Ask(ask::Ask),
    /// Count the parameters of a checkpoint or a published architecture
    Params(params::Params),
    /// Fetch a model from the Hugging Face hub
    Pull(pull::Pull),
    /// Write a model in the layout of another program
    Convert(convert::Convert),
    /// Train a model by a recipe
    Train(train::Train),
    /// Write captions for a web data set, and keep the texts that fit the images
    Capfilt(capfilt::CapFilt),
    /// Measure a model: zero-shot classification, retrieval, a linear probe
    Eval(eval::Eval),
    /// Compare with recorded results of a reference implementation
    Verify(verify::Verify),
    /// Measure how fast a model is, and how far from what the machine can do
    Bench(bench::Bench),
    /// Write a completion script for a shell
    Completions(completions::Completions),
    /// Write manual pages
    Man(man::Manual),
}

/// A device that this build computes on.
#[derive(Clone, Copy)]
struct Device;

/// What inference multiplies in.
#[derive(Clone, Copy)]
pub enum Arithmetic {
    /// What is fastest on this machine and close enough to single precision.
    Auto,
    /// What was asked for.
    Fixed(Precision),
}

fn device(name: &str) -> Result<Device, String> {
    match name {
        "cpu" => Ok(Device),
        _ if name == "metal" || name.split(':').next() == Some("cuda") => {
            Err(format!("this build computes on the CPU only, not on {name}"))
        }
        _ => Err("devices are cpu, cuda[:N] and metal; this build has cpu".to_owned()),
    }
}

impl Arithmetic {
    /// The precision that it means on this machine.
    pub fn precision(self) -> Precision {
        match self {
            Self::Auto => tuwen::auto_precision(),
            Self::Fixed(precision) => precision,
        }
    }
}

/// Reads the value of `--precision`.
pub fn precision(name: &str) -> Result<Arithmetic, String> {
    match name {
        "auto" => Ok(Arithmetic::Auto),
        "q4" => Err("q4 arithmetic is not available in this build; use auto, f32, bf16 or int8".to_owned()),
        _ => {
            let precision = name.parse().map(Arithmetic::Fixed);
            precision.map_err(|_| "precisions are auto, f32, bf16, int8 and q4".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_this_build_lacks_is_refused_by_name() {
        for (arguments, expected) in [
            (["--device", "cuda:1"], "not on cuda:1"),
            (["--precision", "q4"], "q4 arithmetic is not available"),
            (["--precision", "f64"], "precisions are"),
            (["--device", "tpu"], "devices are"),
            (["--threads", "0"], "1..=1024"),
        ] {
            let line = ["tuwen", "params"].into_iter().chain(arguments);
            let message = Arguments::try_parse_from(line).err().expect("refused").to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
