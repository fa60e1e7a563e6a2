//! Which columns of a table are read.

use serde::{Deserialize, Serialize};

/// Usual names, tried in this order, in any case.
const IMAGE: [&str; 9] =
    ["image", "filepath", "file_path", "image_path", "file_name", "filename", "path", "file", "img"];
const CAPTION: [&str; 5] = ["caption", "title", "text", "captions", "description"];
const LABEL: [&str; 2] = ["label", "class"];
const CLASS_NAME: [&str; 2] = ["class_name", "classname"];

/// What the columns of a table are called; those not named here are sought under the usual names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Paths of images, relative to the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A text for each image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Numbers of classes; or their names, which are then numbered in sorted order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Names of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// What stands between the cells; seen from the header unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<char>,
}

/// Places of columns in a header.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) image: usize,
    pub(super) text: Option<usize>,
    pub(super) label: Option<usize>,
    pub(super) class_name: Option<usize>,
}

impl Places {
    /// Finds the columns in a header, or says what is missing.
    pub(super) fn find(columns: Option<&Columns>, header: &[String]) -> Result<Self, String> {
        let none = Columns::default();
        let columns = columns.unwrap_or(&none);
        let place = |given: &Option<String>, usual: &[&str]| find(given.as_deref(), usual, header);
        let image = place(&columns.image, &IMAGE)?.ok_or_else(|| {
            let found = header.join(", ");
            format!("no column of images among {found}; name it: columns = {{ image = \"...\" }}")
        })?;
        let text = place(&columns.caption, &CAPTION)?;
        let (label, class_name) = (place(&columns.label, &LABEL)?, place(&columns.class_name, &CLASS_NAME)?);
        if text.is_none() && label.is_none() && class_name.is_none() {
            let found = header.join(", ");
            return Err(format!(
                "no column of texts among {found}; name it: columns = {{ caption = \"...\" }}"
            ));
        }
        Ok(Self { image, text, label, class_name })
    }
}

/// The place of a column that is named, or of the first usual one.
fn find(given: Option<&str>, usual: &[&str], header: &[String]) -> Result<Option<usize>, String> {
    let place = |name: &str| {
        let mut places = (0..header.len()).filter(|&at| header[at].eq_ignore_ascii_case(name));
        match (places.next(), places.next()) {
            (Some(_), Some(_)) => Err(format!("{name:?} is the name of two columns")),
            (place, _) => Ok(place),
        }
    };
    match given {
        Some(name) => match place(name)? {
            Some(place) => Ok(Some(place)),
            None => Err(format!("no column {name:?}; there are {}", header.join(", "))),
        },
        None => usual.iter().find_map(|name| place(name).transpose()).transpose(),
    }
}
