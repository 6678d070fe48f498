#!/bin/sh
# Before a call to the GPU machine: puts DVC's cache and the upstream outputs' list where they can be carried.
# Run in the project's root after `dvc repro`.
set -eu
dest=${1:-.gpu/pipeline}
rm -rf "$dest" && mkdir -p "$dest"
git ls-files -co --exclude-standard | tar cf "$dest/source.tar" -T -
cp -r .dvc/cache "$dest/cache"
cp dvc.lock "$dest/dvc.lock"
mkdir -p "$dest/metrics" && cp artifacts/metrics/*.json "$dest/metrics/"
du -sh "$dest"
