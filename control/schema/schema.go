// Package schema holds the tables of the control plane as numbered migrations, written in the common subset of SQLite and
// PostgreSQL. Times are milliseconds since 1970 in UTC.
package schema

import "embed"

// Migrations are the files that store.Open applies.
//
//go:embed *.sql
var Migrations embed.FS
