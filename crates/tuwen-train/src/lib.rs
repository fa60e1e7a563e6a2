//! One training loop: objectives, optimizers, schedules, checkpoints
