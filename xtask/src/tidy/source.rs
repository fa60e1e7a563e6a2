//! A Rust source, taken apart as far as the checks need it: code without comments and texts, and what is for tests.

/// A line, split.
#[derive(Debug, Default, PartialEq)]
pub struct Line {
    /// Without comments and without what stands between quotes.
    pub code: String,
    /// What its comments say.
    pub comment: String,
    /// Within an item that is compiled for tests only.
    pub in_test: bool,
}

/// A source file.
pub struct Source {
    /// Relative to the root.
    pub path: String,
    pub lines: Vec<Line>,
    /// The whole file is a module for tests, as its parent says.
    pub in_tests: bool,
    text: String,
}

impl Source {
    pub fn parse(path: &str, text: &str) -> Self {
        let mut lines = split(text);
        mark_tests(&mut lines);
        Self { path: path.to_owned(), lines, in_tests: false, text: text.to_owned() }
    }

    /// The lines with their numbers, from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        (1..).zip(&self.lines)
    }

    /// Whether the file begins with a `//!` comment.
    pub fn is_introduced(&self) -> bool {
        self.text.starts_with("//!")
    }

    /// The crate it belongs to, if it lies in `crates/`.
    pub fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Whether the file belongs to tests, examples or a build script by its place or by its parent's word.
    pub fn is_apart(&self) -> bool {
        self.in_tests
            || self.path.ends_with("/build.rs")
            || self.path.split('/').any(|folder| ["tests", "examples", "benches"].contains(&folder))
    }

    /// The files, without `.rs`, of modules that this one declares for tests only (`#[cfg(test)] mod tests;`).
    pub fn test_modules(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let inner = match file {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        let mut modules = Vec::new();
        let mut path = None;
        for (line, text) in self.lines.iter().zip(self.text.lines()).filter(|(line, _)| line.in_test) {
            if let Some((_, rest)) = text.split_once("path = \"") {
                path =
                    rest.split('"').next().map(|path| format!("{folder}/{}", path.trim_end_matches(".rs")));
            }
            let declared = line.code.trim().strip_suffix(';').and_then(|code| code.split_once("mod "));
            if let Some((_, name)) = declared {
                modules.push(path.take().unwrap_or_else(|| format!("{inner}/{name}")));
            }
        }
        modules
    }
}

enum State {
    Code,
    LineComment,
    /// With the number of comments within one another.
    BlockComment(usize),
    Text,
    /// With the number of `#` after the closing quote.
    RawText(usize),
}

fn split(text: &str) -> Vec<Line> {
    let characters: Vec<char> = text.chars().collect();
    let at = |i: usize| characters.get(i).copied().unwrap_or('\n');
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut i = 0;
    while i < characters.len() {
        let (c, next) = (at(i), at(i + 1));
        i += 1;
        if c == '\n' {
            if let State::LineComment = state {
                state = State::Code;
            }
            lines.push(Line::default());
            continue;
        }
        let Some(line) = lines.last_mut() else { break };
        match state {
            State::Code => match (c, next) {
                ('/', '/') => state = State::LineComment,
                ('/', '*') => state = State::BlockComment(1),
                ('"', _) => {
                    state = opening(&line.code);
                    line.code.push('"');
                }
                // A character, or a lifetime.
                ('\'', '\\') => {
                    i += 2;
                    while at(i) != '\'' && at(i) != '\n' {
                        i += 1;
                    }
                    i += 1;
                    line.code.push_str("''");
                }
                ('\'', _) if at(i + 1) == '\'' => {
                    i += 2;
                    line.code.push_str("''");
                }
                _ => line.code.push(c),
            },
            State::LineComment => line.comment.push(c),
            State::BlockComment(depth) => match (c, next) {
                ('*', '/') => {
                    i += 1;
                    state = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
                }
                ('/', '*') => {
                    i += 1;
                    state = State::BlockComment(depth + 1);
                }
                _ => line.comment.push(c),
            },
            State::Text => match c {
                '\\' if next != '\n' => i += 1,
                '"' => {
                    line.code.push('"');
                    state = State::Code;
                }
                _ => {}
            },
            State::RawText(hashes) => {
                if c == '"' && (i..i + hashes).all(|i| at(i) == '#') {
                    i += hashes;
                    line.code.push('"');
                    state = State::Code;
                }
            }
        }
    }
    lines
}

/// What a quote after this code begins.
fn opening(code: &str) -> State {
    let start = code.trim_end_matches('#');
    let hashes = code.len() - start.len();
    let raw = start.strip_suffix('r').is_some_and(|before| {
        let before = before.strip_suffix(['b', 'c']).unwrap_or(before);
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    });
    if raw { State::RawText(hashes) } else { State::Text }
}

/// Marks the item after each attribute that keeps it for tests.
fn mark_tests(lines: &mut [Line]) {
    for start in 0..lines.len() {
        let attribute =
            ["#[cfg(test)]", "#[cfg(all(test", "#[test]"].iter().find_map(|a| lines[start].code.find(a));
        let (Some(column), false) = (attribute, lines[start].in_test) else { continue };
        let mut depth = 0_usize;
        'item: for (i, line) in lines[start..].iter_mut().enumerate() {
            line.in_test = true;
            for c in line.code.chars().skip(if i == 0 { column } else { 0 }) {
                match c {
                    '{' | '(' | '[' => depth += 1,
                    '}' | ')' | ']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 && matches!(c, '}' | ';') {
                    break 'item;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        split(text).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn comments_and_texts_are_no_code() {
        assert_eq!(code("a // unsafe\nb"), ["a ", "b"]);
        assert_eq!(code("a /* x /* y */ unsafe\n */ b"), ["a ", " b"]);
        assert_eq!(code(r#"f("unsafe \" { // ") + g"#), [r#"f("") + g"#]);
        assert_eq!(code("f(\"a\nb\") + g"), ["f(\"", "\") + g"]);
        assert_eq!(
            code("r#\"a \" unsafe\"# + br\"\\\" + b'\"' + '{' + '\\'' + 'a"),
            [r##"r#"" + br"" + b'' + '' + '' + 'a"##]
        );
        assert_eq!(code("fn f<'a>(x: &'a str) { '\\u{1f}' }"), ["fn f<'a>(x: &'a str) { '' }"]);
        assert_eq!(split("x // SAFETY: y")[0].comment, "/ SAFETY: y");
    }

    #[test]
    fn items_for_tests_are_marked_to_their_end() {
        let text = "a\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn f() {}\n}\nb\n#[cfg(test)] use c;\nd";
        let marked: Vec<usize> = Source::parse("a.rs", text)
            .numbered()
            .filter(|(_, line)| line.in_test)
            .map(|(number, _)| number)
            .collect();
        assert_eq!(marked, [2, 3, 4, 5, 6, 8]);
    }

    #[test]
    fn modules_for_tests_are_found_in_their_files() {
        let text =
            "mod real;\n#[cfg(test)]\nmod testing;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;";
        let modules = |path: &str| Source::parse(path, text).test_modules();
        assert_eq!(modules("crates/a/src/lib.rs"), ["crates/a/src/testing", "crates/a/src/x_tests"]);
        assert_eq!(modules("crates/a/src/b.rs"), ["crates/a/src/b/testing", "crates/a/src/x_tests"]);
        assert_eq!(modules("crates/a/src/b/mod.rs"), ["crates/a/src/b/testing", "crates/a/src/b/x_tests"]);
    }
}
