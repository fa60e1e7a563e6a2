//! Columns beside images and texts, as JSON.

use std::sync::Arc;

use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

use super::{IMAGE_COLUMNS, TEXT_COLUMNS};

/// A column that holds an object of JSON, whose fields count as columns. `tuwen capfilt` writes one.
const JSON_COLUMN: &str = "json";

/// The columns of single values that hold neither images nor texts.
pub(super) fn columns(schema: &Type) -> Vec<TypePtr> {
    let known = |name: &str| IMAGE_COLUMNS.contains(&name) || TEXT_COLUMNS.contains(&name);
    let others = schema.get_fields().iter().filter(|field| field.is_primitive() && !known(field.name()));
    others.map(Arc::clone).collect()
}

/// The values of a row; what is null, or neither a number nor a text, is left out.
pub(super) fn object(row: Row) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, field) in row.into_columns() {
        match value(field) {
            Some(Value::String(text)) if name == JSON_COLUMN => {
                if let Ok(Value::Object(fields)) = serde_json::from_str(&text) {
                    object.extend(fields);
                }
            }
            Some(value) => {
                object.entry(name).or_insert(value);
            }
            None => {}
        }
    }
    object
}

fn value(field: Field) -> Option<Value> {
    Some(match field {
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_json() {
        let row = Row::new(vec![
            ("url".into(), Field::Str("http://x".into())),
            ("json".into(), Field::Str(r#"{"width":3,"url":"other"}"#.into())),
            ("height".into(), Field::Long(4)),
            ("status".into(), Field::Null),
            ("width".into(), Field::Int(9)),
        ]);
        let expected = serde_json::json!({"url": "other", "width": 3, "height": 4});
        assert_eq!(Value::Object(object(row)), expected);
    }
}
