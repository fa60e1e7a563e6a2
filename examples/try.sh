#!/bin/sh
# Captions, asks about, embeds, classifies and matches the example photographs with the built-in models.
set -eu
cd "$(dirname "$0")/.."

tuwen() {
    echo
    echo "\$ tuwen $*"
    cargo run --release --quiet -- --quiet "$@"
}

photos=examples/photos
tuwen caption "$photos"
tuwen ask "$photos/horse_silhouette.jpg" "what animal is this?" --answers horse,cat,car
tuwen embed "$photos"
tuwen classify "$photos/chelsea_cat.jpg" --labels cat,dog,bird,airplane,automobile,ship,horse,truck
tuwen match "$photos/astronaut.jpg" "$photos/chelsea_cat.jpg" "$photos/rocket.jpg" "$photos/texture_brick.jpg" \
    "$photos/texture_grass.jpg" \
    --text "a person wearing an orange suit smiles" --text "a brown and white cat looks up" \
    --text "fireworks light up the night sky" --text "a brick wall" --text "grass in a field"
