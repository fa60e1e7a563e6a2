//! `pull`: fetches a model from the Hugging Face hub into the local cache.

use clap::Args;
use serde_json::json;
use tuwen::hub::{Pulled, pull};

use crate::arguments::Global;
use crate::console::{Console, MEGABYTE};
use crate::failure::{Failure, Status};
use crate::models::hub_failure;

/// Arguments of `pull`.
#[derive(Args)]
pub struct Pull {
    /// The hub id, such as openai/clip-vit-base-patch32, perhaps with @revision
    #[arg(value_name = "MODEL")]
    id: String,
}

/// Runs `pull`.
pub fn run(arguments: &Pull, global: &Global, console: &Console) -> Result<Status, Failure> {
    let pulled = fetch(&arguments.id, global, console)?;
    if console.json {
        let files: Vec<_> = pulled
            .files
            .iter()
            .map(|file| json!({"path": file.path, "bytes": file.bytes, "fetched": file.fetched}))
            .collect();
        console.print(json!({
            "model": arguments.id,
            "revision": pulled.revision,
            "directory": pulled.directory,
            "files": files,
        }))?;
    } else {
        console.print(pulled.directory.display())?;
    }
    Ok(Status::Done)
}

/// Fetches a model, with a progress bar for each file.
pub fn fetch(id: &str, global: &Global, console: &Console) -> Result<Pulled, Failure> {
    let mut bar = None;
    let mut said = 0;
    let pulled = pull(id, &global.hub(), &mut |progress| {
        let megabytes = progress.done / MEGABYTE;
        if bar.is_none() || progress.begins {
            drop(bar.take());
            let mut fresh = console.progress(progress.total.div_ceil(MEGABYTE), "MB");
            fresh.resume_at(megabytes);
            fresh.message(progress.name.to_owned());
            said = megabytes;
            bar = Some(fresh);
        }
        if let Some(bar) = &mut bar {
            bar.advance(megabytes.saturating_sub(said));
            said = megabytes.max(said);
        }
    });
    drop(bar);
    pulled.map_err(hub_failure)
}
