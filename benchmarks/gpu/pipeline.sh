#!/bin/sh
# `dvc repro` itself on the GPU machine: the target's stages run there, upstream artifacts come from the carried cache.
# Usage, in the project's root: sh benchmarks/gpu/pipeline.sh PYTHON NAME [OVERRIDE ...]
# (PYTHON: the one with TensorRT; needs .gpu/pipeline)
set -u
py=$1; name=$2; shift 2
out=${OUT:-$PWD/measured}; mkdir -p "$out"
log=$out/pipeline_$name.log
work=/tmp/pipeline_$name; rm -rf "$work"; mkdir -p "$work"
tar xf .gpu/pipeline/source.tar -C "$work"
cp -r .gpu/pipeline/cache "$work"/.dvc/cache 2>/dev/null || {
  mkdir -p "$work"/.dvc && cp -r .gpu/pipeline/cache "$work"/.dvc/cache
}
cp .gpu/pipeline/dvc.lock "$work"/dvc.lock
mkdir -p "$work"/artifacts/metrics && cp .gpu/pipeline/metrics/*.json "$work"/artifacts/metrics/
cd "$work" || exit 1
mkdir -p bin && printf '#!/bin/sh\nexec %s "$@"\n' "$py" > bin/python && chmod +x bin/python
PATH="$work"/bin:$PATH; export PATH
dvc="python -m dvc"
export DVC_NO_ANALYTICS=1 PYTHONUNBUFFERED=1 COLUMNS=160
step() {
  what=$1; shift; began=$(date +%s); "$@" >> "$log" 2>&1; rc=$?
  echo "$what: rc $rc, $(( $(date +%s) - began )) s" | tee -a "$log"; return $rc
}

step config $dvc config core.no_scm true
step checkout $dvc checkout prepare_data train_reference export check_onnx calibrate analyze_sensitivity search_mixed \
  check_drift
step configure python -m enginewright.cli configure runtime=tensorrt \
  'build.tactic_sources=[EDGE_MASK_CONVOLUTIONS,JIT_CONVOLUTIONS]' "$@"
step status $dvc status
step repro $dvc repro gate
step again $dvc repro gate
step flat $dvc metrics show
tar czf "$out/pipeline_$name.tgz" dvc.lock params.yaml artifacts/metrics artifacts/target artifacts/calibration \
  artifacts/profile artifacts/accuracy/*.csv \
  artifacts/benchmark artifacts/mixed artifacts/pareto artifacts/gate artifacts/engines/*/*.json 2>> "$log"
grep -E "^(error|ERROR|Running stage|Stage '|[a-z_]+: rc)" "$log" | tail -60
