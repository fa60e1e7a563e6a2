//! A recipe: TOML, its keys, and what is computed from its numbers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuwen_fuzz::{say, write};
use tuwen_train::Recipe;

fuzz_target!(|data: &[u8]| match Recipe::read(&write("recipe.toml", data)) {
    Ok(recipe) => {
        recipe.output();
        recipe.optimizer_settings(false);
        let schedule = recipe.schedule(10);
        for step in [0, 1, 100, u64::MAX] {
            schedule.at(step);
        }
    }
    Err(error) => say(&error),
});
