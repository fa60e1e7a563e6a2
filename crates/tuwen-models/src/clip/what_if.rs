//! CLIP at other sizes.

use super::config::{ClipConfig, ConfigError, VisionConfig};
use crate::ResNetConfig;
use crate::what_if::{Amount, Change, Size, Sizes, Tower, WhatIfError, half, heads_of, set};

impl ClipConfig {
    /// This model with some sizes changed. Heads keep their width where the width of the tower allows it, else their
    /// number; MLPs keep their ratio.
    ///
    /// # Errors
    /// Sizes that make no network, in one line.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, WhatIfError> {
        let mut config = self.clone();
        let set = |tower, size: Size, value: &mut usize| set(changes, tower, size, value);
        match &mut config.vision {
            VisionConfig::Vit(vit) => vit.change(changes)?,
            VisionConfig::ResNet(resnet) => change_resnet(resnet, changes)?,
        }
        let text = &mut config.text;
        set(Tower::Text, Size::Vocab, &mut text.vocab_size)?;
        set(Tower::Text, Size::Context, &mut text.max_position_embeddings)?;
        let sizes = Sizes {
            width: &mut text.hidden_size,
            depth: &mut text.num_hidden_layers,
            heads: &mut text.num_attention_heads,
            mlp: &mut text.intermediate_size,
        };
        sizes.change(Tower::Text, changes)?;
        set(Tower::Text, Size::Joint, &mut config.projection_dim)?;
        Ok(config.checked()?)
    }

    /// This model with one size halved, or as near to that as a network can be; `None` where it can be no smaller.
    pub fn halved(&self, size: Size) -> Option<Self> {
        let to = |tower, size, value| Change { tower: Some(tower), size, amount: Amount::Exactly(value) };
        let mut config = self.clone();
        let changes = match size {
            Size::Width => {
                let vision = match &self.vision {
                    VisionConfig::Vit(vit) => half(vit.num_attention_heads, vit.hidden_size),
                    // Heads of a pool whose width is 32 times this one.
                    VisionConfig::ResNet(resnet) => {
                        (resnet.num_attention_heads.div_ceil(2), resnet.width.div_ceil(4) * 2)
                    }
                };
                let text = half(self.text.num_attention_heads, self.text.hidden_size);
                let both = [(Tower::Vision, vision), (Tower::Text, text)];
                both.into_iter()
                    .flat_map(|(tower, (heads, width))| {
                        [to(tower, Size::Heads, heads), to(tower, Size::Width, width)]
                    })
                    .collect()
            }
            Size::Depth => {
                config.text.num_hidden_layers = self.text.num_hidden_layers.div_ceil(2);
                match &mut config.vision {
                    VisionConfig::Vit(vit) => vit.num_hidden_layers = vit.num_hidden_layers.div_ceil(2),
                    VisionConfig::ResNet(resnet) => resnet.layers = resnet.layers.map(|n| n.div_ceil(2)),
                }
                Vec::new()
            }
            Size::Image => {
                let cell = match &self.vision {
                    VisionConfig::Vit(vit) => vit.patch_size,
                    VisionConfig::ResNet(_) => ResNetConfig::CELL,
                };
                let half = (self.vision.image_size() / 2 / cell).max(1) * cell;
                vec![to(Tower::Vision, size, half)]
            }
            Size::Vocab => vec![to(Tower::Text, size, self.text.vocab_size.div_ceil(2))],
            Size::Context => vec![to(Tower::Text, size, self.text.max_position_embeddings.div_ceil(2))],
            _ => return None,
        };
        config.changed(&changes).ok().filter(|halved| halved != self)
    }

    /// What can be changed, under the names of [`Change`], with the present values.
    pub fn sizes(&self) -> Vec<(String, String)> {
        let mut sizes = match &self.vision {
            VisionConfig::Vit(vit) => vit.sizes().map(|(name, size)| (name, size.to_string())).to_vec(),
            VisionConfig::ResNet(resnet) => vec![
                ("vision.width", resnet.width.to_string()),
                ("vision.depth", resnet.layers.map(|count| count.to_string()).join("-")),
                ("vision.heads", resnet.num_attention_heads.to_string()),
            ],
        };
        let text = &self.text;
        sizes.extend(
            [
                ("image", self.vision.image_size()),
                ("text.width", text.hidden_size),
                ("text.depth", text.num_hidden_layers),
                ("text.heads", text.num_attention_heads),
                ("text.mlp", text.intermediate_size),
                ("vocab", text.vocab_size),
                ("context", text.max_position_embeddings),
                ("joint", self.projection_dim),
            ]
            .map(|(name, size)| (name, size.to_string())),
        );
        sizes.into_iter().map(|(name, size)| (name.to_owned(), size)).collect()
    }
}

fn change_resnet(resnet: &mut ResNetConfig, changes: &[Change]) -> Result<(), WhatIfError> {
    let find = |size| Change::find(changes, Tower::Vision, size);
    let only_of_vit = |size: Size| {
        let named = changes.iter().any(|change| change.size == size && change.tower == Some(Tower::Vision));
        let missing = named || size == Size::Patch && find(size).is_some();
        let error = || WhatIfError::NotHere { key: size.to_string(), reason: "a ResNet has no such size" };
        if missing { Err(error()) } else { Ok(()) }
    };
    only_of_vit(Size::Patch)?;
    only_of_vit(Size::Mlp)?;
    match find(Size::Depth) {
        None => {}
        // Stages are short: half of three blocks are two.
        Some(Amount::Times(factor)) => {
            resnet.layers = resnet.layers.map(|count| (count as f64 * factor).ceil() as usize);
        }
        Some(Amount::Exactly(_)) => {
            let reason = "a ResNet has four stages; give a factor, such as vision.depth=0.5";
            return Err(WhatIfError::NotHere { key: "vision.depth".to_owned(), reason });
        }
    }
    let pooled = resnet.pooled_size();
    set(changes, Tower::Vision, Size::Image, &mut resnet.image_size)?;
    set(changes, Tower::Vision, Size::Width, &mut resnet.width)?;
    let heads = resnet.num_attention_heads;
    if !resnet.width.is_multiple_of(2) {
        let message = format!("vision.width is {}; a ResNet takes an even one", resnet.width);
        return Err(ConfigError::Sizes(message).into());
    }
    resnet.num_attention_heads = match find(Size::Heads) {
        Some(amount) => amount.of("vision.heads", heads)?,
        None => heads_of(resnet.pooled_size(), pooled, heads, Tower::Vision)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::presets;

    fn changed(name: &str, changes: &str) -> Result<ClipConfig, String> {
        let changes = changes.split(',').map(|change| change.parse().expect(change)).collect::<Vec<_>>();
        presets::find(name).expect(name).changed(&changes).map_err(|error| error.to_string())
    }

    #[test]
    fn heads_and_mlps_follow_the_width() {
        let config =
            changed("ViT-B-32", "width=0.5,depth=2,patch=16,image=336,text.mlp=100").expect("a network");
        let VisionConfig::Vit(vit) = &config.vision else { panic!("a ViT") };
        let sizes = (
            vit.hidden_size,
            vit.num_attention_heads,
            vit.intermediate_size,
            vit.num_hidden_layers,
            vit.grid(),
        );
        assert_eq!(sizes, (384, 6, 1536, 2, 21));
        let text = &config.text;
        assert_eq!((text.hidden_size, text.num_attention_heads, text.intermediate_size), (256, 4, 100));
        let text = changed("ViT-B-32", "width=1024,text.width=0.5").expect("a network").text;
        assert_eq!(text.hidden_size, 256, "what names the tower counts");
        let wide = changed("RN50", "vision.width=2.0,vision.depth=0.5").expect("a network");
        let VisionConfig::ResNet(resnet) = &wide.vision else { panic!("a ResNet") };
        assert_eq!((resnet.width, resnet.num_attention_heads, resnet.layers), (128, 64, [2, 2, 3, 2]));
    }

    #[test]
    fn impossible_sizes_are_one_line() {
        for (name, changes, expected) in [
            ("ViT-B-32", "width=0.3", "vision.width: 768 x 0.3 is 230.39"),
            ("ViT-B-32", "vision.width=770", "neither heads of 64 nor 12 heads"),
            ("ViT-B-32", "heads=7", "does not make 7 heads"),
            ("ViT-B-32", "patch=15", "image 224 is no multiple of patch 15"),
            ("ViT-B-32", "image=225", "image 225 is no multiple of patch 32"),
            ("ViT-B-32", "depth=100000", "expected at most 4096"),
            ("ViT-B-32", "vocab=x1000", "text vocab_size is 49408000"),
            ("RN50", "patch=16", "a ResNet has no such size"),
            ("RN50", "depth=2", "a ResNet has four stages"),
            ("RN50", "image=230", "does not make 32 cells"),
            ("RN50", "width=33", "takes an even one"),
        ] {
            let message = changed(name, changes).expect_err(changes);
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn every_published_model_can_be_halved() {
        for name in presets::names() {
            let config = presets::find(name).expect(name);
            for size in [Size::Width, Size::Depth, Size::Image, Size::Vocab, Size::Context] {
                let halved = config.halved(size).unwrap_or_else(|| panic!("{name}: {size}"));
                let differing =
                    config.sizes().into_iter().zip(halved.sizes()).filter(|(before, after)| before != after);
                assert!(differing.count() >= 1, "{name}: {size}");
            }
        }
    }
}
