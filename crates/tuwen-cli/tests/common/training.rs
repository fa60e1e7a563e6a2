//! A recipe that learns in seconds to tell stripes, and what a run of it leaves.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Pictures of two classes: stripes along and stripes across.
pub fn write_pictures(folder: &Path) {
    for (class, across) in [("along", false), ("across", true)] {
        fs::create_dir_all(folder.join(class)).expect("created");
        for number in 0..12 {
            let stripe = |x: u32, y: u32| if across { y } else { x } / 4 % 2 * 200 + number;
            let pixels: Vec<u8> = (0..20 * 20)
                .flat_map(|i| [stripe(i % 20, i / 20), 10 * number, 90].map(|v| v as u8))
                .collect();
            let file = fs::File::create(folder.join(class).join(format!("{number}.png"))).expect("created");
            let mut encoder = png::Encoder::new(file, 20, 20);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().expect("written").write_image_data(&pixels).expect("written");
        }
    }
}

/// A recipe of 160 steps over them, with ten evaluations.
pub fn write_recipe(directory: &Path) {
    write_pictures(&directory.join("pictures"));
    let recipe = r#"
        seed = 3
        output = "out"
        data = [{ path = "pictures", caption_templates = ["a picture of stripes {}.", "stripes {}"] }]
        tokenizer = { train_vocab_size = 530 }
        augment = { horizontal_flip = 0.5, random_resized_crop = { scale = [0.5, 1.0] }, word_dropout = 0.2 }
        train = { batch_size = 6, epochs = 40, checkpoint_every = 7, log_every = 1 }
        optimizer = { lr = 0.002, warmup_steps = 10 }
        eval = [{ name = "stripes", kind = "zero_shot", path = "pictures", every_epochs = 4, templates = ["stripes {}"] }]

        [model]
        projection_dim = 16
        vision = { kind = "vit", hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, image_size = 16, patch_size = 8 }
        text = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 40 }
    "#;
    fs::write(directory.join("recipe.toml"), recipe).expect("written");
}

/// The log without what depends on the clock.
pub fn log(directory: &Path) -> Vec<Value> {
    let text = fs::read_to_string(directory.join("out/log.jsonl")).expect("a log");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a whole line");
        value.as_object_mut().expect("an object").remove("images_per_second");
        value
    };
    text.lines().map(line).collect()
}
