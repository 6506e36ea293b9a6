package coapfront

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// OptionDeprecation tells a caller that the version that it uses is on its way out: a CBOR array of when it was deprecated and
// when it ends, in seconds since 1970, and the path of the same operation of the version that follows; null stands for what is not
// known. The number is in the experimental range until one is registered: elective and safe to forward, so that whoever does not know
// it is not hindered, and no part of the cache key (RFC 7252 section 5.4.6).
const OptionDeprecation coap.OptionNumber = 65052

const (
	tellEvery   = 24 * time.Hour
	toldPlaces  = 1 << 16
	maxTellPath = 255 // bytes of a path that is told
)

// Initial bytes of CBOR (RFC 8949 appendix B).
const (
	cborUint32   = 0x1a
	cborText     = 0x78 // with one byte of length
	cborArrayOf3 = 0x83
	cborNull     = 0xf6
)

// told remembers who has been told in the last 24 hours, in a table that does not grow: two callers may share a place, and
// then the second of them is told when the first need not be any more.
type told struct {
	once   sync.Once
	seed   maphash.Seed
	places []atomic.Uint32 // when, in seconds since 1970
}

// tell adds the option to an answer that is a success, of a contract that wants it, once a day for each caller that is known and
// version.
func (t *told) tell(x *pipeline.Exchange, response *coap.Response) {
	if x.Findings&fieldgate.FindingDeprecated == 0 || !x.Operation.Contract.DeprecationOption || !response.Code.IsSuccess() || !known(&x.Principal) {
		return
	}
	if !t.due(x, time.Now()) {
		return
	}
	contract := x.Operation.Contract
	value := appendDate([]byte{cborArrayOf3}, contract.Deprecated)
	value = appendDate(value, contract.Sunset)
	if path := x.SuccessorPath(nil); path != nil && len(path) <= maxTellPath {
		value = append(append(value, cborText, byte(len(path))), path...)
	} else {
		value = append(value, cborNull)
	}
	response.Options.Add(OptionDeprecation, value)
}

// due says whether the caller has not been told for a day, and notes that it is now.
func (t *told) due(x *pipeline.Exchange, now time.Time) bool {
	t.once.Do(func() {
		t.seed, t.places = maphash.MakeSeed(), make([]atomic.Uint32, toldPlaces)
	})
	var hash maphash.Hash
	hash.SetSeed(t.seed)
	for _, part := range [...]string{string(x.Principal.Kind), x.Principal.ID, x.Operation.Contract.API, x.Operation.Contract.Version} {
		hash.WriteString(part)
		hash.WriteByte(0)
	}
	place, seconds := &t.places[hash.Sum64()%toldPlaces], uint32(now.Unix())
	before := place.Load()
	if before != 0 && seconds-before < uint32(tellEvery/time.Second) {
		return false
	}
	return place.CompareAndSwap(before, seconds)
}

// appendDate writes a date of a contract (RFC 3339) as seconds since 1970.
func appendDate(dst []byte, date string) []byte {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, date); err == nil && at.Unix() >= 0 && at.Unix() < 1<<32 {
			seconds := uint32(at.Unix())
			return append(dst, cborUint32, byte(seconds>>24), byte(seconds>>16), byte(seconds>>8), byte(seconds))
		}
	}
	return append(dst, cborNull)
}
