#!/bin/sh
# Before calls to the GPU machine: the target's half of a project in parts that can be carried there.
# Usage, in this repository's root: sh benchmarks/gpu/pack_detection.sh PROJECT [DEST]
# PROJECT: made by `enginewright init`. `dvc repro search_mixed` is done by this checkout, or by the wheel LIBRARY; then
# `enginewright configure runtime=tensorrt 'build.tactic_sources=[EDGE_MASK_CONVOLUTIONS,JIT_CONVOLUTIONS]'`: configure
# asks for data.root, which stays here.
set -eu
project=$1; dest=${2:-.gpu/detection}
rm -rf "$dest" && mkdir -p "$dest" && dest=$(cd "$dest" && pwd)
python -m pip wheel -q --no-deps --no-build-isolation -w "$dest" "${LIBRARY:-.}" && rm -rf build enginewright.egg-info
# of the data only what engines are validated with: 1.2 MB an image at 640 pixels
cd "$project"
tar cf - --exclude=artifacts/target --exclude=.dvc/cache --exclude=.dvc/tmp .dvc .dvcignore conf data layers model \
  dvc.yaml dvc.lock params.yaml toolchain.yaml artifacts/onnx artifacts/checks artifacts/calibration \
  artifacts/sensitivity artifacts/mixed artifacts/metrics artifacts/toolchain artifacts/data/validation |
  xz -2 -T0 | split -b 56M -d - "$dest/project.tar.xz."
du -sh "$dest" && ls -l "$dest"
