// Package examples holds the sample contracts, which the demo publishes and tests compile.
package examples

import "embed"

// Files are the sample contracts by their file names.
//
//go:embed *.yaml
var Files embed.FS
