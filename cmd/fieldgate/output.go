package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// format is the form of an answer; it is a flag's value.
type format string

const (
	formatTable format = "table" // for people
	formatJSON  format = "json"  // for programs: the objects of the admin API
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "FORMAT" }

func (f *format) Set(value string) error {
	switch format(value) {
	case formatTable, formatJSON:
		*f = format(value)
		return nil
	}
	return fmt.Errorf("the forms are table and json")
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// isTerminal says whether a person reads what is written.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// colour is a terminal's colour by its SGR number (ECMA-48 section 8.3.117); 0 is none.
type colour int

const (
	plain  colour = 0
	red    colour = 31
	green  colour = 32
	yellow colour = 33
	faint  colour = 2
	bold   colour = 1
)

// cell is one field of a table.
type cell struct {
	text   string
	colour colour
}

func cells(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i] = cell{text: text}
	}
	return row
}

// table writes aligned columns; nothing is cut. Colours appear on terminals only, and not where NO_COLOR is set
// (https://no-color.org).
type table struct {
	w        io.Writer
	coloured bool
	widths   []int
	rows     [][]cell
}

func newTable(w io.Writer, header ...string) *table {
	t := &table{w: w, coloured: isTerminal(w) && os.Getenv("NO_COLOR") == ""}
	if len(header) > 0 {
		t.add(boldCells(header...)...)
	}
	return t
}

func boldCells(texts ...string) []cell {
	row := cells(texts...)
	for i := range row {
		row[i].colour = bold
	}
	return row
}

func (t *table) add(row ...cell) {
	for i := range row {
		row[i].text = printable(row[i].text)
		if i == len(t.widths) {
			t.widths = append(t.widths, 0)
		}
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(row[i].text))
	}
	t.rows = append(t.rows, row)
}

// flush writes the rows that were added; the widths stay, for more of them.
func (t *table) flush() error {
	var b strings.Builder
	for _, row := range t.rows {
		line := len(row)
		for line > 0 && row[line-1].text == "" {
			line--
		}
		for i, c := range row[:line] {
			text := c.text
			if t.coloured && c.colour != plain {
				text = fmt.Sprintf("\x1b[%dm%s\x1b[0m", c.colour, c.text)
			}
			b.WriteString(text)
			if i < line-1 {
				b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		b.WriteByte('\n')
	}
	t.rows = t.rows[:0]
	_, err := io.WriteString(t.w, b.String())
	return err
}

// printable keeps what devices send (routes, details) from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func shortTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// micros writes a duration with three digits that count.
func micros(n int64) string {
	switch d := time.Duration(n) * time.Microsecond; {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", n)
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(n)/1e3)
	default:
		return fmt.Sprintf("%.3g s", float64(n)/1e6)
	}
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// plural is "1 device", "2 devices".
func plural[N int | int64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
