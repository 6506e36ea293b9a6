package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// filterFlags are the flags that narrow a list: terms of its filter, and --filter for any.
type filterFlags struct {
	flags *cobra.Command
	text  string
	terms []*filterTerm
}

type filterTerm struct {
	key, value, suffix string
}

// addFilter adds --filter to a command; keys are what the list knows.
func addFilter(command *cobra.Command, keys string) *filterFlags {
	f := &filterFlags{flags: command}
	command.Flags().StringVar(&f.text, "filter", "", "terms such as 'key:value -key:value word'; the keys are "+keys)
	return f
}

// key adds a flag for one term; suffix follows the value.
func (f *filterFlags) key(flag, key, suffix, usage string) *filterFlags {
	t := &filterTerm{key: key, suffix: suffix}
	f.terms = append(f.terms, t)
	f.flags.Flags().StringVar(&t.value, flag, "", usage)
	return f
}

// String is the filter that the flags ask for.
func (f *filterFlags) String() string {
	var all []string
	if f.text != "" {
		all = append(all, f.text)
	}
	for _, t := range f.terms {
		if t.value != "" {
			all = append(all, t.key+`:"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(t.value)+`"`+t.suffix)
		}
	}
	return strings.Join(all, " ")
}

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
