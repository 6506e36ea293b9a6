// Package api holds Fieldgate's own contract, fieldgate.openapi.yaml, and the types generated from it, which the server
// (control/adminapi) and the client (api/client) share. The contract is written first; `go generate ./api` follows it.
package api

import _ "embed"

//go:generate go tool oapi-codegen -config types.codegen.yaml fieldgate.openapi.yaml
//go:generate go tool oapi-codegen -config client.codegen.yaml fieldgate.openapi.yaml
//go:generate go tool oapi-codegen -config server.codegen.yaml fieldgate.openapi.yaml

// Document is the contract of the admin API.
//
//go:embed fieldgate.openapi.yaml
var Document []byte
