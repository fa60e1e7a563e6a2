#!/bin/sh
# Adds known noise to captions, cleans them with CapFilt, and says how much of the noise was found.
#
#   sh examples/capfilt-noise.sh TRAIN.tar OUT CAPTIONER FILTER [RECIPE]
#
# TRAIN is a data set with texts, such as Flickr8k's training part; CAPTIONER and FILTER are models, or `builtin`. Of each
# picture the first text is used, and of $FRACTION of them (0.4) noise takes its place: the text of another picture, a text
# in another language, or what stands around pictures on web pages. RECIPE is one of `tuwen train`, such as
# examples/capfilt-noise.toml, in which @DATA@ stands for the training data, @OUT@ for the output and @HERE@ for this checkout;
# it is run on the noisy and on the cleaned data, and its evaluations tell which serves better. What was done before is not
# done again.
set -eu
[ $# -ge 4 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
source=$1 out=$2 captioner=$3 filter=$4 recipe=${5:-}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

noise() { cargo run --release --quiet --manifest-path "$here/Cargo.toml" -p tuwen-jobs --example noise -- "$@"; }
tuwen() { cargo run --release --quiet --manifest-path "$here/Cargo.toml" -- "$@"; }

[ -e "$out/noise.jsonl" ] || noise add "$source" "$out/noisy.tar" "$out/noise.jsonl" --fraction "${FRACTION:-0.4}"
# Exit status 1 says that some samples could not be read, which is no reason to stop.
tuwen capfilt "$out/noisy.tar" "$out/cleaned" --captioner "$captioner" --filter "$filter" || [ $? -eq 1 ]
noise found "$out/cleaned" "$out/noise.jsonl" | tee "$out/found.json"

[ -n "$recipe" ] || exit 0
for kind in noisy cleaned; do
    data=$out/cleaned
    [ "$kind" = cleaned ] || data=$out/noisy.tar
    sed -e "s|@DATA@|$data|" -e "s|@OUT@|$out/$kind-model|" -e "s|@HERE@|$here|" "$recipe" > "$out/$kind.toml"
    echo "trained on the $kind data:"
    tuwen train "$out/$kind.toml" --resume
done
