package recorder

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"fieldgate"
)

// What stands in the file after a kill is read up to the first entry that is not whole, whatever a power cut made of the pages.
func TestUnwrittenDamaged(t *testing.T) {
	folder := t.TempDir()
	u, left, err := openUnwritten(folder, "n1")
	if err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	u.begin(7)
	for i := range 10 {
		u.add(&fieldgate.Record{Exchange: uint64(i + 1), API: "thermo"})
	}
	u.turn(11)
	for i := range 5 {
		u.add(&fieldgate.Record{Exchange: uint64(i + 11)})
	}
	u.close()
	path := filepath.Join(folder, unwrittenName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, left, err = openUnwritten(folder, "n1")
	if err != nil || len(left) != 2 || left[0].First != 1 || len(left[0].Records) != 10 || left[1].First != 11 || len(left[1].Records) != 5 ||
		left[0].Epoch != 7 || left[0].Records[9].API != "thermo" {
		t.Fatalf("%+v %v", left, err)
	}
	for range 200 {
		damaged := append([]byte(nil), whole...)
		for range 1 + rand.IntN(8) {
			damaged[rand.IntN(2)*halfBytes+rand.IntN(1000)] = byte(rand.Uint32())
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		u, left, err := openUnwritten(folder, "n1")
		if err != nil {
			t.Fatal(err)
		}
		for _, batch := range left {
			if len(batch.Records) > 10 {
				t.Fatalf("%d records", len(batch.Records))
			}
		}
		u.close()
	}
}

// More Records than a half holds are in the buffer only; those before stay.
func TestUnwrittenFull(t *testing.T) {
	folder := t.TempDir()
	u, _, err := openUnwritten(folder, "n1")
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	u.begin(1)
	long := string(make([]byte, 4096))
	for range 1000 {
		u.add(&fieldgate.Record{API: long, Route: long, Detail: long})
	}
	if batch := u.read(u.half, "n1"); len(batch.Records) < 500 || len(batch.Records) == 1000 {
		t.Fatalf("%d records", len(batch.Records))
	}
	u.turn(1001)
	u.written()
	if batch := u.read(1-u.half, "n1"); len(batch.Records) != 0 {
		t.Fatalf("%d records", len(batch.Records))
	}
}
