package sim

import (
	"encoding/hex"
	"testing"
)

// The encodings are those of RFC 8949 appendix A, put together to a map.
func TestPayloadEncodings(t *testing.T) {
	p := payload{{"a", 10}, {"b", 100}, {"c", 1000}, {"d", 1000000}, {"e", -100}, {"f", 1.1}, {"g", "IETF"}}
	const wantJSON = `{"a":10,"b":100,"c":1000,"d":1000000,"e":-100,"f":1.1,"g":"IETF"}`
	if got := string(p.appendJSON(nil)); got != wantJSON {
		t.Errorf("JSON %s", got)
	}
	const wantCBOR = "a7" + "6161" + "0a" + "6162" + "1864" + "6163" + "1903e8" + "6164" + "1a000f4240" + "6165" + "3863" + "6166" + "fb3ff199999999999a" + "6167" + "6449455446"
	if got := hex.EncodeToString(p.appendCBOR(nil)); got != wantCBOR {
		t.Errorf("CBOR %s", got)
	}
}
