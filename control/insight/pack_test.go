package insight

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func packOperations(operations map[string]*packedOperation) []byte {
	packed := []byte{packForm}
	packed = binary.AppendUvarint(packed, uint64(len(operations)))
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		packed = operations[name].appendTo(appendText(packed, name))
	}
	return packed
}

// packLatencies packs the encoded sketches of operations.
func packLatencies(latencies map[string][]byte) []byte {
	packed := []byte{packForm}
	packed = binary.AppendUvarint(packed, uint64(len(latencies)))
	for _, name := range slices.Sorted(maps.Keys(latencies)) {
		packed = appendText(packed, name)
		packed = binary.AppendUvarint(packed, uint64(len(latencies[name])))
		packed = append(packed, latencies[name]...)
	}
	return packed
}

// Sums merged into packed columns, step by step, are what maps of them would be.
func TestMergeIsAnExactSum(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var stored packedTraffic
	operations, latencies := make(map[string]*packedOperation), make(map[string]*latency)
	for range 20 {
		sum := &trafficSum{operations: make(map[string]*operationSum)}
		for range random.IntN(200) {
			name := fmt.Sprint("operation", random.IntN(300))
			if operations[name] == nil {
				operations[name], latencies[name] = &packedOperation{}, &latency{}
			}
			if sum.operations[name] == nil {
				sum.operations[name] = &operationSum{}
			}
			one := packedOperation{counts: counts{1, 2, 3, 4, uint64(random.IntN(1000))}}
			one.findings[random.IntN(findingKinds)] = 1
			bin := binOf(time.Duration(random.ExpFloat64() * float64(time.Second)))
			for _, o := range []*packedOperation{operations[name], &sum.operations[name].packedOperation} {
				o.add(&one)
			}
			for _, l := range []*latency{latencies[name], &sum.operations[name].latency} {
				l.add(bin, 1)
			}
		}
		var err error
		if stored, err = sum.pack(stored); err != nil {
			t.Fatal(err)
		}
	}
	encoded := make(map[string][]byte)
	for name, l := range latencies {
		encoded[name] = l.appendTo(nil)
	}
	if !bytes.Equal(stored.operations, packOperations(operations)) || !bytes.Equal(stored.latencies, packLatencies(encoded)) {
		t.Error("the sums differ")
	}
}

// What exceeds the operations that one row holds is counted as one, and nothing is lost.
func TestMergeIsBounded(t *testing.T) {
	var stored packedTraffic
	for step := range 3 {
		sum := &trafficSum{operations: make(map[string]*operationSum)}
		for i := range maxPacked {
			o := &operationSum{}
			o.exchanges = 1
			o.latency.add(3, 1)
			sum.operations[fmt.Sprintf("operation-%d", i+step*1000)] = o
		}
		var err error
		if stored, err = sum.pack(stored); err != nil {
			t.Fatal(err)
		}
	}
	count, total := 0, uint64(0)
	names := make(map[string]uint64)
	err := unpackOperations(stored.operations, func(name []byte, o *packedOperation) error {
		count++
		total += o.exchanges
		names[string(name)] = o.exchanges
		return nil
	})
	if err != nil || count != maxPacked+1 || total != 3*maxPacked || names[other] != 1000+2000 {
		t.Errorf("%d operations with %d exchanges, of which others %d: %v", count, total, names[other], err)
	}
	measured := uint64(0)
	if err := unpackLatencies(stored.latencies, func(_, encoded []byte) error {
		var l latency
		err := l.mergeEncoded(encoded)
		measured += l.total
		return err
	}); err != nil || measured != 3*maxPacked {
		t.Errorf("%d latencies: %v", measured, err)
	}
}
