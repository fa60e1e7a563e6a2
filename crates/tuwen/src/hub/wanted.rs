//! Which files of a repository a model needs.

/// Small files: configurations, preprocessing, tokenizers.
const SMALL: [&str; 14] = [
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "med_config.json",
    "config_bert.json",
    "merges.txt",
    "bpe_simple_vocab_16e6.txt.gz",
    "bpe_simple_vocab_16e6.txt",
];

/// Weights, best first: safetensors before pickles, Hugging Face's before open_clip's.
const WEIGHTS: [&str; 10] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.pt",
    "model.pth",
];

/// What a model needs of a repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub small: Vec<String>,
    /// The weights, or the index that names their parts.
    pub weights: String,
}

/// Chooses among the files of a repository; what it offers instead of weights where there are none.
pub fn wanted(files: &[String]) -> Result<Wanted, String> {
    let there = |name: &&str| files.iter().any(|file| file == name);
    let weights = WEIGHTS.iter().find(|name| there(name));
    let Some(weights) = weights else {
        const SHOWN: usize = 6;
        let mut found: Vec<_> = files.iter().take(SHOWN).map(String::as_str).collect();
        if files.len() > SHOWN {
            found.push("...");
        }
        let found = found.join(", ");
        return Err(if found.is_empty() { "it is empty".to_owned() } else { format!("it holds {found}") });
    };
    let small = SMALL.iter().filter(|name| there(name)).map(|&name| name.to_owned()).collect();
    Ok(Wanted { small, weights: (*weights).to_owned() })
}

/// The files that an index of weights names; `None` where it is none, or names what is no plain file beside it.
pub fn parts(index: &[u8]) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let Index { weight_map } = serde_json::from_slice(index).ok()?;
    let mut parts: Vec<String> = weight_map.into_values().collect();
    parts.sort();
    parts.dedup();
    parts.iter().all(|part| is_plain(part)).then_some(parts)
}

/// Whether a word from a server may be a name in the cache.
pub fn is_plain(word: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=200).contains(&word.len()) && !word.starts_with('.') && word.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(files: &[&str]) -> Result<Wanted, String> {
        wanted(&files.iter().map(|&file| file.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_format_of_the_weights_is_enough() {
        let all = [
            ".gitattributes",
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "open_clip_model.safetensors",
            "pytorch_model.bin",
            "tf_model.h5",
        ];
        let chosen = choose(&all).expect("weights");
        assert_eq!(
            (chosen.weights.as_str(), chosen.small),
            ("model.safetensors", vec!["config.json".into(), "merges.txt".into()])
        );
        assert_eq!(
            choose(&["pytorch_model.bin", "open_clip_model.safetensors"]).expect("weights").weights,
            "open_clip_model.safetensors"
        );
        assert_eq!(choose(&["model.gguf"]), Err("it holds model.gguf".to_owned()));
        assert_eq!(choose(&[]), Err("it is empty".to_owned()));
    }

    #[test]
    fn a_blip_comes_with_its_vocabulary() {
        let hub =
            ["config.json", "preprocessor_config.json", "pytorch_model.bin", "tf_model.h5", "vocab.txt"];
        let chosen = choose(&hub).expect("weights");
        assert_eq!(chosen.small, ["config.json", "preprocessor_config.json", "vocab.txt"]);
        assert_eq!(chosen.weights, "pytorch_model.bin");
        let original = choose(&["med_config.json", "model.pth", "vocab.txt"]).expect("weights");
        assert_eq!((original.weights.as_str(), original.small.len()), ("model.pth", 2));
    }

    #[test]
    fn an_index_names_files_beside_it() {
        let index = br#"{"metadata": {}, "weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#;
        assert_eq!(parts(index), Some(vec!["1.safetensors".to_owned(), "2.safetensors".to_owned()]));
        for bad in [&br#"{"weight_map": {"a": "../x"}}"#[..], br#"{"weight_map": {"a": ""}}"#, b"[]"] {
            assert_eq!(parts(bad), None);
        }
        assert!(
            is_plain("6c5e9b") && !is_plain("..") && !is_plain("a/b") && !is_plain("") && !is_plain("a\\b")
        );
    }
}
