#!/bin/sh
# Does fine-tuning the embedder on some documents help to search others? In the store that is named:
#
#   sh tests/bench/measure_embedder.sh STORE TRAIN_DOCS TRAIN_CASES TEST_DOCS TEST_CASES [SETTING...]
#
# TRAIN_DOCS and TEST_DOCS are folders, TRAIN_CASES and TEST_CASES files in fti's case form; settings
# are such as embedder_training.max_steps=80. Prints the metrics of the training and, for the vector
# search alone and then for the hybrid search, what the gate found: recall@1 and the other scores of
# the tuned embedder minus those of its base on the same cases, with 95 % intervals. A refusal is a
# result too: it names the difference.
set -e
[ $# -ge 5 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
store=$1 train_docs=$2 train_cases=$3 test_docs=$4 test_cases=$5
shift 5
options=""
for setting; do options="$options --set $setting"; done
FTI_STORE=$store
export FTI_STORE
fti ingest "$train_docs" --json
# shellcheck disable=SC2086
fti finetune-embedder "$train_cases" --name finder $options --json
# Only now: documents that are there before are split, and trained on, with the others.
fti ingest "$test_docs" --json
fti cases freeze measured "$test_cases" --json
rm -rf "$store-vector"
cp -r "$store" "$store-vector"
fti models promote finder/1 --alias champion --cases measured --store "$store-vector" \
    --set inference.retrieval.mode=vector --json || true
fti models promote finder/1 --alias champion --cases measured --json || true
