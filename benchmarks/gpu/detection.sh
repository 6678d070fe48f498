#!/bin/sh
# A detector on the GPU machine through `dvc repro`: engines of every precision, their mAP, and images per second with
# and without pre- and postprocessing. What is portable was computed elsewhere and carried (pack_detection.sh).
# Usage: sh benchmarks/gpu/detection.sh PYTHON NAME
# (PYTHON: the one with TensorRT. PARTS: the folder with the wheel and project.tar.xz.*; WHEELS: more wheels that PYTHON
# lacks, such as hotcoco, SciPy and Pillow. Called again on the same machine, it goes on where it stopped.)
set -u
py=$1; name=$2
out=${OUT:-$PWD/measured}; mkdir -p "$out"
parts=${PARTS:-.gpu/detection}; log=$out/detection_$name.log; : > "$log"
work=${WORK:-/tmp/detection_$name}
if [ ! -f "$work/project/dvc.lock" ]; then
  mkdir -p "$work/library" "$work/project" "$work/bin"
  for wheel in "$parts"/*.whl ${WHEELS:+"$WHEELS"/*.whl}; do
    "$py" -m zipfile -e "$wheel" "$work/library" || exit 1
  done
  cat "$parts"/project.tar.xz.* | "$py" -c "import sys, tarfile
tarfile.open(fileobj=sys.stdin.buffer, mode='r|xz').extractall(sys.argv[1])" "$work/project" || exit 1
  printf '#!/bin/sh\nexec %s "$@"\n' "$py" > "$work/bin/python" && chmod +x "$work/bin/python"
fi
cd "$work/project" || exit 1
export PATH="$work/bin:$PATH" PYTHONPATH="$work/library" DVC_NO_ANALYTICS=1 PYTHONUNBUFFERED=1 COLUMNS=160
step() {
  what=$1; shift; began=$(date +%s); "$@" >> "$log" 2>&1; rc=$?
  echo "$what: rc $rc, $(( $(date +%s) - began )) s" | tee -a "$log"; return $rc
}
keep() {
  tar czf "$out/detection_$name.tgz" dvc.lock params.yaml artifacts/metrics artifacts/target artifacts/calibration \
    artifacts/profile artifacts/accuracy artifacts/benchmark artifacts/mixed artifacts/pareto artifacts/sensitivity \
    artifacts/engines/*/*.json 2>> "$log"
  for stage in build_fp32 build_fp16 build_int8 build_int8_mixed validate_accuracy benchmark_sustained; do
    cp "artifacts/metrics/$stage.json" "$out/detection_${name}_$stage.json" 2>> "$log"
  done
}

step config python -m dvc config core.no_scm true
step status python -m dvc status
# in the order of what is most wanted, each kept at once: a call may end before the last
for stage in build_int8 build_fp16 build_int8_mixed build_fp32 validate_accuracy benchmark_sustained profile_layers \
  pareto; do
  step "$stage" python -m dvc repro --allow-missing "$stage"
  keep
done
step metrics python -m dvc metrics show
grep -E "^(error|ERROR|Gate|Running stage|Stage '|[a-z_]+: rc)" "$log" | tail -60
