#!/bin/sh
# Fails when the generated files are not what api/fieldgate.openapi.yaml generates.
set -eu
cd "$(dirname "$0")/.."
before=$(git ls-files -z '*.gen.go' '*.gen.ts' | xargs -0 sha256sum)
go generate ./api/...
(cd console && npm run --silent generate >/dev/null)
after=$(git ls-files -z '*.gen.go' '*.gen.ts' | xargs -0 sha256sum)
if [ "$before" != "$after" ]; then
  echo "Generated files were out of date; they have been generated again: commit them." >&2
  exit 1
fi
