//! Networks, configurations, processors and weight layouts of the model families
