//! The recipes of the project can be read.

use std::path::Path;

use tuwen_train::Recipe;

#[test]
fn all_are_recipes() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes"));
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        Recipe::read(&path).unwrap_or_else(|error| panic!("{error}"));
        let text = std::fs::read_to_string(&path).expect("a recipe");
        let command =
            format!("#   tuwen train recipes/{}", path.file_name().expect("a name").to_string_lossy());
        assert!(text.contains(&command), "{} is headed by its command", path.display());
        read += 1;
    }
    assert!(read >= 7);
}
