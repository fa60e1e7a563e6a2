//! The table of published architectures.

use tuwen_tensor::Activation::{Gelu, QuickGelu};

use super::{Preset, Tower, resnet, vit};

/// Name, other name, joint width, image side, image tower (width, layers, heads, patch), text tower (width, layers),
/// activation.
macro_rules! preset {
    ($name:literal, $alias:literal, $dim:literal, $size:literal, $vision:expr, $text:expr, $act:ident) => {
        Preset {
            name: $name,
            alias: $alias,
            projection_dim: $dim,
            image_size: $size,
            vision: $vision,
            text: $text,
            hidden_act: $act,
        }
    };
}

const VIT_G: Tower = Tower::Vit { width: 1408, mlp: 6144, layers: 40, heads: 16, patch: 14 };
const VIT_BIG_G: Tower = Tower::Vit { width: 1664, mlp: 8192, layers: 48, heads: 16, patch: 14 };
const VIT_E: Tower = Tower::Vit { width: 1792, mlp: 15360, layers: 56, heads: 16, patch: 14 };

#[rustfmt::skip] // a table
pub(super) const PRESETS: [Preset; 33] = [
    // OpenAI's, and the ViT-H that transformers calls so.
    preset!("clip-vit-base-patch32",      "ViT-B/32",     512, 224, vit(768, 12, 12, 32),  [512, 12], QuickGelu),
    preset!("clip-vit-base-patch16",      "ViT-B/16",     512, 224, vit(768, 12, 12, 16),  [512, 12], QuickGelu),
    preset!("clip-vit-large-patch14",     "ViT-L/14",     768, 224, vit(1024, 24, 16, 14), [768, 12], QuickGelu),
    preset!("clip-vit-large-patch14-336", "ViT-L/14@336", 768, 336, vit(1024, 24, 16, 14), [768, 12], QuickGelu),
    preset!("clip-rn50",    "RN50",    1024, 224, resnet(64, [3, 4, 6, 3]),     [512, 12],  QuickGelu),
    preset!("clip-rn101",   "RN101",    512, 224, resnet(64, [3, 4, 23, 3]),    [512, 12],  QuickGelu),
    preset!("clip-rn50x4",  "RN50x4",   640, 288, resnet(80, [4, 6, 10, 6]),    [640, 12],  QuickGelu),
    preset!("clip-rn50x16", "RN50x16",  768, 384, resnet(96, [6, 8, 18, 8]),    [768, 12],  QuickGelu),
    preset!("clip-rn50x64", "RN50x64", 1024, 448, resnet(128, [3, 15, 36, 10]), [1024, 12], QuickGelu),
    preset!("clip-vit-huge-patch14", "ViT-H-14", 1024, 224, vit(1280, 32, 16, 14), [1024, 24], Gelu),
    // open_clip's.
    preset!("ViT-S-32-alt",      "", 256, 224, vit(384, 12, 6, 32),   [256, 10], Gelu),
    preset!("ViT-S-32",          "", 384, 224, vit(384, 12, 6, 32),   [384, 12], Gelu),
    preset!("ViT-S-16-alt",      "", 256, 224, vit(384, 12, 6, 16),   [256, 10], Gelu),
    preset!("ViT-S-16",          "", 384, 224, vit(384, 12, 6, 16),   [384, 12], Gelu),
    preset!("ViT-M-32-alt",      "", 384, 224, vit(512, 12, 8, 32),   [384, 12], Gelu),
    preset!("ViT-M-32",          "", 512, 224, vit(512, 12, 8, 32),   [512, 12], Gelu),
    preset!("ViT-M-16",          "", 512, 224, vit(512, 12, 8, 16),   [512, 12], Gelu),
    preset!("ViT-B-32",          "", 512, 224, vit(768, 12, 12, 32),  [512, 12], Gelu),
    preset!("ViT-B-32-256",      "", 512, 256, vit(768, 12, 12, 32),  [512, 12], Gelu),
    preset!("ViT-B-32-plus-256", "", 640, 256, vit(896, 12, 14, 32),  [640, 12], Gelu),
    preset!("ViT-B-16",          "", 512, 224, vit(768, 12, 12, 16),  [512, 12], Gelu),
    preset!("ViT-B-16-plus",     "", 640, 224, vit(896, 12, 14, 16),  [640, 12], Gelu),
    preset!("ViT-B-16-plus-240", "", 640, 240, vit(896, 12, 14, 16),  [640, 12], Gelu),
    preset!("ViT-L-16",          "", 768, 224, vit(1024, 24, 16, 16), [768, 12], Gelu),
    preset!("ViT-L-16-320",      "", 768, 320, vit(1024, 24, 16, 16), [768, 12], Gelu),
    preset!("ViT-L-14",          "", 768, 224, vit(1024, 24, 16, 14), [768, 12], Gelu),
    preset!("ViT-L-14-280",      "", 768, 280, vit(1024, 24, 16, 14), [768, 12], Gelu),
    preset!("ViT-L-14-336",      "", 768, 336, vit(1024, 24, 16, 14), [768, 12], Gelu),
    preset!("ViT-H-16",          "", 1024, 224, vit(1280, 32, 16, 16), [1024, 24], Gelu),
    preset!("ViT-H-14-378",      "", 1024, 378, vit(1280, 32, 16, 14), [1024, 24], Gelu),
    preset!("ViT-g-14",          "", 1024, 224, VIT_G,                 [1024, 24], Gelu),
    preset!("ViT-bigG-14",       "", 1280, 224, VIT_BIG_G,             [1280, 32], Gelu),
    preset!("ViT-e-14",          "", 1280, 224, VIT_E,                 [1280, 36], Gelu),
];
