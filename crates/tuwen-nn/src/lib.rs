//! Layers, losses and the scope that loads or initialises parameters
