package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTableAligns(t *testing.T) {
	var b bytes.Buffer
	table := newTable(&b, "ID", "NAME")
	table.add(cells("größer", "x")...)
	table.add(cell{"a", red}, cell{"a \x1b[31mroute\nof a device", plain})
	table.add(cells("b", "")...)
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	const want = "ID      NAME\ngrößer  x\na       a ?[31mroute?of a device\nb\n"
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
	if isTerminal(os.NewFile(99, "closed")) {
		t.Error("a closed file passes for a terminal")
	}
}

func TestColoursDoNotMoveColumns(t *testing.T) {
	var b bytes.Buffer
	table := newTable(&b)
	table.coloured = true
	table.add(cell{"a", red}, cell{text: "x"})
	table.add(cell{text: "long"}, cell{text: "y"})
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[31ma\x1b[0m     x\nlong  y\n"; b.String() != want {
		t.Errorf("got %q", b.String())
	}
}

func TestMagnitudes(t *testing.T) {
	for got, want := range map[string]string{
		micros(999): "999 µs", micros(1500): "1.5 ms", micros(2_340_000): "2.34 s", bytesText(1023): "1023 B", bytesText(1536): "1.5 KiB", bytesText(3 << 20): "3.0 MiB", bytesText(5 << 30): "5.0 GiB",
		plural(1, "device"): "1 device", plural(2, "device"): "2 devices",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
