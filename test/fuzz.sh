#!/bin/sh
# fuzz.sh TIME [WORD]: runs every fuzz test of the project, or those whose folder or name has the word, for the given time each.
set -eu
cd "$(dirname "$0")/.."
git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | while read -r file; do
  for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file"); do
    case "$(dirname "$file") $name" in *"${2-}"*) ;; *) continue ;; esac
    echo "== $(dirname "$file") $name"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "./$(dirname "$file")"
  done
done
