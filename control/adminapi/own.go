package adminapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/contract"
	"fieldgate/control/catalog"
	"fieldgate/control/filter"
)

// ownAPI is the admin API as an entry of the inventory. It is part of the program: it can be neither replaced nor retired.
type ownAPI struct {
	contract    *fieldgate.Contract
	versions    []*catalog.Version
	description catalog.Description
}

var ownReading = sync.OnceValue(func() contract.Reading {
	reading, err := readOwn()
	if err != nil {
		panic(err) // the document is part of the program, and tested
	}
	return reading
})

func newOwnAPI(started time.Time) ownAPI {
	k := ownReading().Contract
	digest := sha256.Sum256(api.Document)
	own := ownAPI{contract: k, description: catalog.Describe(ownReading())}
	own.versions = []*catalog.Version{{API: catalog.OwnName, Version: k.Version, Title: k.Title, Kind: k.Kind, State: fieldgate.LifecycleActive,
		Digest: hex.EncodeToString(digest[:]), Operations: len(k.Operations), Owner: own.description.Owner, Protocols: catalog.ProtocolsOf(k), Published: started}}
	return own
}

// readOwn compiles the contract of the admin API. Cookies are how consoles sign in and nothing for devices: to the compiler
// their header carries the key.
func readOwn() (contract.Reading, error) {
	document := bytes.Replace(api.Document, []byte("in: cookie\n      name: fieldgate-session"), []byte("in: header\n      name: Cookie"), 1)
	return contract.Read("fieldgate.openapi.yaml", document)
}

// withOwn adds the admin API to a page of the list of APIs, in its place, where the filter selects it.
func (o *operations) withOwn(list []*catalog.API, terms filter.Filter, after string) []*catalog.API {
	if after >= catalog.OwnName || !o.own.selected(terms) {
		return list
	}
	at, _ := slices.BinarySearchFunc(list, catalog.OwnName, func(a *catalog.API, name string) int { return strings.Compare(a.API, name) })
	return slices.Insert(list, at, &catalog.API{Version: *o.own.versions[0], Versions: 1})
}

func (a *ownAPI) selected(terms filter.Filter) bool {
	v := a.versions[0]
	for _, t := range terms {
		selected := true
		switch t.Key {
		case "":
			selected = t.Finds(v.API, v.Title)
		case "state":
			selected = t.Matches(string(v.State))
		case "kind":
			selected = t.Matches(string(v.Kind))
		case "protocol":
			selected = t.Matches(v.Protocols...)
		case "owner":
			selected = t.Matches(v.Owner)
		}
		if !selected {
			return false
		}
	}
	return true
}
