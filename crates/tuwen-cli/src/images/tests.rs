//! Tests of what inputs lead to.

use std::fs;

use super::*;

/// Names below `root`, and the errors after `!`, of what arguments lead to.
fn visited(root: &Path, images: &[&str]) -> Vec<String> {
    let images = images.iter().map(|image| root.join(image)).collect();
    let inputs = ImageInputs { images, files_from: None, null: false, exact_decode: false };
    let mut names = Vec::new();
    let root = format!("{}/", root.display());
    let flow = inputs.open().expect("opened").visit(&mut |name, read| {
        let name = name.strip_prefix(&root).unwrap_or(&name).to_owned();
        names.push(match read() {
            Ok(Content::File(_)) => name,
            Ok(Content::Bytes(bytes)) => format!("{name}={}", String::from_utf8_lossy(&bytes)),
            Err(error) => format!("{name}!{error}"),
        });
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    let count = inputs.count(&AtomicBool::new(false));
    assert!(count.is_some_and(|count| count <= names.len() as u64 + 1), "{count:?} {names:?}");
    names
}

/// A tar file of these members.
fn tar_of(members: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).expect("appended");
    }
    builder.into_inner().expect("finished")
}

#[test]
fn folders_and_patterns_become_sorted_images() {
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path();
    fs::create_dir_all(root.join("sub/deep")).expect("created");
    fs::create_dir(root.join("empty")).expect("created");
    for file in ["b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/deep/c.webp", "sub/d.jpeg"] {
        fs::write(root.join(file), "").expect("written");
    }
    let all = ["a.png", "b.JPG", "sub/d.jpeg", "sub/deep/c.webp"];
    assert_eq!(visited(root, &[""]), all);
    assert_eq!(visited(root, &["*"]), all);
    assert_eq!(visited(root, &["{b.JPG,a.png}"]), ["b.JPG", "a.png"]);
    assert_eq!(visited(root, &["notes.txt", "a.png"]), ["notes.txt", "a.png"]);
    let failed = visited(root, &["empty", "none.jpg", "*.gif", "{1..", "x{0..1}.jpg"]);
    for (got, expected) in failed.iter().zip([
        "empty!no images here",
        "none.jpg!no such file",
        "*.gif!no images here",
        "{1..!a brace",
        "x0.jpg!no such file",
        "x1.jpg!no such file",
    ]) {
        assert!(got.starts_with(expected), "{got}");
    }
    assert_eq!(failed.len(), 6);
}

#[test]
fn members_of_tar_files_are_images() {
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path();
    let shard = tar_of(&[
        ("./a.jpg", "A"),
        ("a.txt", "text"),
        ("x/b.PNG", "B"),
        ("x/._b.png", "no"),
        ("c.json", "{}"),
    ]);
    fs::write(root.join("s-00.tar"), &shard).expect("written");
    fs::write(root.join("s-01.tar"), tar_of(&[("d.gif", "D")])).expect("written");
    fs::write(root.join("unnamed"), &shard).expect("written");
    fs::write(root.join("none.tar"), tar_of(&[("d.txt", "D")])).expect("written");
    let expected = ["s-00.tar/a.jpg=A", "s-00.tar/x/b.PNG=B", "s-01.tar/d.gif=D"];
    assert_eq!(visited(root, &["s-{00..01}.tar"]), expected);
    assert_eq!(visited(root, &["s-*.tar"]), expected);
    assert_eq!(visited(root, &["unnamed"]), ["unnamed/a.jpg=A", "unnamed/x/b.PNG=B"]);
    assert!(visited(root, &["none.tar"])[0].starts_with("none.tar!no images here"));
    assert!(visited(root, &[""])[0].contains("no images here but tar files"));
    let missing = visited(root, &["s-{01..02}.tar"]);
    assert_eq!(missing, ["s-01.tar/d.gif=D", "s-02.tar!no such file or folder"]);
}

#[test]
fn of_a_cut_tar_file_what_is_whole_is_visited_and_one_line_said() {
    let place = tempfile::tempdir().expect("a directory");
    let long = "B".repeat(2000);
    let shard = tar_of(&[("a.jpg", "A"), ("b.jpg", &long), ("c.txt", &long)]);
    // Header and data: a at 0 to 1024, b at 1024 to 3584, c at 3584 to 6144, then the end.
    let edges = [1, 511, 512, 513, 1024, 1536, 3535, 3536, 3537, 3584, 6144, 6655];
    for length in (1..shard.len() - 512).step_by(97).chain(edges) {
        let piece = &shard[..length];
        fs::write(place.path().join("cut.tar"), piece).expect("written");
        let from_file = visited(place.path(), &["cut.tar"]);
        let mut streamed = Vec::new();
        let flow = stream::visit("cut.tar", piece, &mut |name, read| {
            streamed.push(match read() {
                Ok(Content::Bytes(bytes)) => format!("{name}={}", String::from_utf8_lossy(&bytes)),
                Ok(Content::File(_)) => name,
                Err(error) => format!("{name}!{error}"),
            });
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        for names in [from_file, streamed] {
            let whole = usize::from(length > 512) + usize::from(length >= 1024 + 512 + 2000);
            if length < 512 {
                assert_eq!(names.len(), 1, "{length}: {names:?}");
                continue;
            }
            let (good, bad): (Vec<_>, Vec<_>) = names.iter().partition(|name| !name.contains('!'));
            assert_eq!((good.len(), bad.len()), (whole, 1), "{length}: {names:?}");
            assert!(bad[0].contains("cut off") || bad[0].contains("broken off"), "{length}: {bad:?}");
        }
    }
}

#[test]
fn a_list_names_paths_one_a_line_or_with_nul() {
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path();
    for file in ["a b.jpg", "[x].jpg", "line\nbreak.jpg"] {
        fs::write(root.join(file), "").expect("written");
    }
    let list = root.join("list.txt");
    let names = |text: String, null| {
        fs::write(&list, text).expect("written");
        let inputs =
            ImageInputs { images: Vec::new(), files_from: Some(list.clone()), null, exact_decode: false };
        let mut names = Vec::new();
        let root = format!("{}/", root.display());
        let _ = inputs.open().expect("opened").visit(&mut |name, _| {
            names.push(name.replace(&root, ""));
            ControlFlow::Continue(())
        });
        names
    };
    let at = |name: &str| root.join(name).display().to_string();
    let text = format!("\u{feff}{}\r\n\n{}\nnone.jpg", at("a b.jpg"), at("[x].jpg"));
    assert_eq!(names(text, false), ["a b.jpg", "[x].jpg", "none.jpg"]);
    assert_eq!(
        names(format!("{}\0{}\0", at("line\nbreak.jpg"), at("[x].jpg")), true),
        ["line\nbreak.jpg", "[x].jpg"]
    );
    let endless = names("x".repeat(2 << 20), false);
    assert_eq!(endless.len(), 1);
    assert!(endless[0].ends_with("list.txt:1"), "{endless:?}");
}
