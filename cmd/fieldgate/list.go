package main

import "io"

// pageSize is how many entries are asked for at once.
const pageSize = 1000

// printPages prints all pages of a list: as one JSON array, or as a table.
func printPages[T any](c *cli, w io.Writer, header []string, page func(cursor string) (items []T, next string, err error), row func(T) []cell) error {
	all, err := allPages(page)
	if err != nil {
		return err
	}
	if c.output == formatJSON {
		return printJSON(w, all)
	}
	t := newTable(w, header...)
	for _, item := range all {
		t.add(row(item)...)
	}
	return t.flush()
}

// allPages reads a list to its end. It is never nil, so that programs get an array even of nothing.
func allPages[T any](page func(cursor string) (items []T, next string, err error)) ([]T, error) {
	all := []T{}
	for cursor := ""; ; {
		items, next, err := page(cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		cursor = next
	}
}
