//! Vision-language models: load, embed, classify, match
