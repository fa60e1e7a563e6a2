//! What differs between two recipes.

use serde_json::Value;

/// `key: old -> new` for every difference between two recipes.
pub(crate) fn differences(old: &Value, new: &Value) -> Vec<String> {
    fn collect(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
        let enter = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                let added = b.keys().filter(|key| !a.contains_key(*key));
                for key in a.keys().chain(added) {
                    let [a, b] = [a, b].map(|object| object.get(key).unwrap_or(&Value::Null));
                    collect(&enter(key), a, b, found);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    collect(&enter(&i.to_string()), a, b, found);
                }
            }
            _ if old != new => found.push(format!("{path}: {old} -> {new}")),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect("", old, new, &mut found);
    found
}
