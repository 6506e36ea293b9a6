#!/bin/sh
# Measures everything that docs/measurements.md reports.
set -eu
cd "$(dirname "$0")/../.."
go test -run '^$' -bench 'Telemetry' -benchmem ./contract/schema
go test -run '^$' -bench . -benchmem ./gateway/directory ./gateway/pipeline
go test -run '^$' -bench . -benchmem ./protocol/...
go run ./test/bench
