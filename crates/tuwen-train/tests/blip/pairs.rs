//! Contrast and matching with momentum copies and queues; pre-training with captions beside them.

use tuwen_models::blip::weights::Layout;
use tuwen_nn::Pass;
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Tensor, no_grad, ops};
use tuwen_train::{CaptionedImages, GroundedBatch, GroundedPart, Keys, Negatives, Objective};

use crate::case::{Case, Tensors, close, raw};

/// Names of copies as those of what they follow.
fn followed(name: &str) -> Option<String> {
    let (part, rest) = name.split_once('.')?;
    Some(format!("{}.{rest}", part.strip_suffix("_m")?))
}

/// The copies in a file of the case, under our names.
fn copies(case: &Case, file: &str) -> Tensors {
    let source = case.file(file);
    let renamed: Tensors = source
        .names()
        .into_iter()
        .filter_map(|name| Some((followed(&name)?, raw(&case.tensor(file, &name)))))
        .collect();
    let ours = Layout::Salesforce.import(renamed).expect("nothing is tied");
    let read = |name: String| {
        let tensor = ours.read(&name).expect("a copy");
        (name, raw(&Tensor::new(&tensor.to_f32(), &tensor.shape)))
    };
    ours.names().into_iter().filter(|name| ours.read(name).is_ok()).map(read).collect()
}

/// Queues, which the reference keeps as columns, and where the next ones go.
fn queues(case: &Case, file: &str, of_retrieval: bool) -> Tensors {
    let rows = |name: &str| raw(&ops::permute(&case.tensor(file, name), &[1, 0]));
    let mut queues = Tensors::new();
    for name in ["image_queue", "text_queue"] {
        queues.insert(name.to_owned(), rows(name));
    }
    let pointer = if of_retrieval { "ptr_queue" } else { "queue_ptr" };
    let pointer = case.file(file).read(pointer).expect("a pointer").to_i64().expect("an integer")[0];
    queues.insert("queue_ptr".to_owned(), raw(&Tensor::full(pointer as f32, &[])));
    if of_retrieval {
        let ids = case.file(file).read("idx_queue").expect("ids").to_i64().expect("integers");
        let ids: Vec<f32> = ids.into_iter().map(|id| id as f32).collect();
        queues.insert("idx_queue".to_owned(), raw(&Tensor::new(&ids, &[ids.len()])));
    }
    queues
}

/// Brings copies and queues to where the case begins.
fn begin(case: &Case, of_retrieval: bool) {
    let start = copies(case, "model.pth").into_iter().chain(queues(case, "model.pth", of_retrieval));
    for (name, tensor) in start {
        let entry = case.grounded.parameters().get(&format!("momentum.{name}")).expect(&name);
        entry.param.assign(&Tensor::new(&tensor.to_f32(), &tensor.shape));
    }
}

fn batch(case: &Case, ids: Vec<u32>) -> GroundedBatch {
    let tokens = case.tokens("input_ids", "attention_mask");
    let pairs = CaptionedImages {
        taught: None,
        images: vec![0, 1, 2, 3],
        written: tokens.clone().starting_with(case.config.tokens.dec),
        tokens,
        written_images: vec![0, 1, 2, 3],
        meanings: Vec::new(),
        ids,
    };
    case.batch(GroundedPart { pixel_values: case.images(), pairs: Some(pairs), asked: None })
}

fn look(case: &Case, batch: &GroundedBatch) -> Keys {
    let teacher = case.grounded.teacher().expect("there are copies");
    teacher.follow();
    teacher.look(batch).expect("there are pairs")
}

fn after_forward(case: &Case, batch: &GroundedBatch, keys: &Keys, of_retrieval: bool) {
    let ids = &batch.parts[0].pairs.as_ref().expect("pairs").ids;
    case.grounded.teacher().expect("there are copies").enqueue(keys, ids);
    let file = "after_forward.safetensors";
    for (name, expected) in copies(case, file).into_iter().chain(queues(case, file, of_retrieval)) {
        let entry = case.grounded.parameters().get(&format!("momentum.{name}")).expect(&name);
        close(&name, &entry.param.value().to_vec(), &expected.to_f32(), |value| 3e-5 + 1e-4 * value.abs());
    }
}

fn numbers(step: &serde_json::Value, name: &str) -> Vec<u32> {
    let numbers = step[name].as_array().expect("numbers");
    numbers.iter().map(|number| number.as_u64().expect("a number") as u32).collect()
}

fn trains(name: &str, blip: &str, losses: &[(&str, &str)], of_retrieval: bool) {
    let blip = format!("{blip}, momentum = 0.995, queue_size = 12, alpha = 0.4, alpha_ramp_epochs = 0.0");
    let Some(case) = Case::open(name, &blip) else { return };
    begin(&case, of_retrieval);
    let ids = if of_retrieval { case.integers("idx") } else { vec![0, 1, 2, 3] };
    let batch = batch(&case, ids);
    let keys = look(&case, &batch);
    let expected = |name: &str| case.tensor("expected.safetensors", name).to_vec();
    close("images", &keys.images.to_vec(), &expected("vision_proj_m.normalised"), |_| 3e-5);
    close("texts", &keys.texts.to_vec(), &expected("text_proj_m.normalised"), |_| 3e-5);
    let negatives = Negatives {
        image_for_text: case.integers("neg_image_for_text"),
        text_for_image: case.integers("neg_text_for_image"),
    };
    case.check(&batch, Some(&keys), Some(&negatives), losses);
    after_forward(&case, &batch, &keys, of_retrieval);

    // Anew, for ten steps.
    let case = Case::open(name, &blip).expect("there before");
    begin(&case, of_retrieval);
    let before = |step: &serde_json::Value| {
        let temp = case.grounded.gauges()["temp"];
        let expected = step["temp"].as_f64().expect("a temperature");
        assert!((temp - expected).abs() < 1e-5, "{temp} {expected}");
        let negatives = Negatives {
            image_for_text: numbers(step, "negative_image_for_text"),
            text_for_image: numbers(step, "negative_text_for_image"),
        };
        (Some(look(&case, &batch)), Some(negatives))
    };
    case.check_steps(&batch, before, "total");
}

#[test]
fn pre_training() {
    let losses = [("itc", "loss_ita"), ("itm", "loss_itm"), ("lm", "loss_lm")];
    trains("blip-sf-pretrain-tiny", "task = \"pretrain\"", &losses, false);
}

#[test]
fn retrieval() {
    let losses = [("itc", "loss_ita"), ("itm", "loss_itm")];
    trains("blip-sf-retrieval-tiny", "task = \"retrieval\"", &losses, true);
}

/// Whatever a part of a batch is, the contrast is that of the whole; computed again or kept, gradients are the same.
#[test]
fn parts_have_the_gradients_of_the_whole() {
    let Some(case) = Case::open("blip-sf-pretrain-tiny", "task = \"pretrain\", itm = 0.0") else { return };
    let whole = batch(&case, vec![0, 1, 2, 3]);
    let pairs = whole.parts[0].pairs.as_ref().expect("pairs");
    let half = |first: u32| {
        let rows = [first, first + 1];
        let pairs = CaptionedImages {
            taught: None,
            images: vec![0, 1],
            tokens: pairs.tokens.select(&rows),
            written: pairs.written.select(&rows),
            written_images: vec![0, 1],
            meanings: vec![first.to_string(), (first + 1).to_string()],
            ids: rows.to_vec(),
        };
        let pixel_values = ops::narrow(&case.images(), 0, first as usize, 2);
        GroundedPart { pixel_values, pairs: Some(pairs), asked: None }
    };
    let parts = GroundedBatch { parts: vec![half(0), half(2)], place: whole.place };
    let mut meant = batch(&case, vec![0, 1, 2, 3]);
    meant.parts[0].pairs.as_mut().expect("pairs").meanings = (0..4).map(|i| i.to_string()).collect();
    let pass = Pass::train();
    let (expected, gradients) = case.grounded.gradients(&meant, &pass).expect("gradients");
    for pass in [Pass::train(), Pass::train().with_checkpointing(true)] {
        let (losses, by_parts) = case.grounded.gradients(&parts, &pass).expect("gradients");
        for (name, loss) in &losses {
            assert!((loss - expected[name]).abs() < 1e-5, "{name}: {loss}, {}", expected[name]);
        }
        for entry in case.grounded.blip().parameters().trainable() {
            let [a, b] = [&by_parts, &gradients].map(|of| of.get(&entry.param.value()).map(Tensor::to_vec));
            let (Some(a), Some(b)) = (a, b) else { continue };
            let largest = b.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            close(&entry.name, &a, &b, |_| 2e-6 + 2e-5 * largest);
        }
    }
    let losses = no_grad(|| case.grounded.losses_of(&parts, None, None, &Pass::eval()));
    assert_eq!(losses.iter().filter(|(name, _)| *name == "itc").count(), 1);
}
