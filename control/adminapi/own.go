package adminapi

import (
	"bytes"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/contract"
)

// compileOwn compiles the contract of the admin API. Cookies are how consoles sign in and nothing for devices: to the compiler
// their header carries the key.
func compileOwn() (*fieldgate.Contract, []contract.Diagnostic, error) {
	document := bytes.Replace(api.Document, []byte("in: cookie\n      name: fieldgate-session"), []byte("in: header\n      name: Cookie"), 1)
	return contract.Compile("fieldgate.openapi.yaml", document)
}
