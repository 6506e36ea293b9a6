package main

import (
	"fmt"
	"io"

	"fieldgate/api"
)

// printRules says what holds for the calls of each operation.
func printRules(w io.Writer, a *api.ApiDetail) error {
	shown := false
	for i := range a.Operations {
		o := &a.Operations[i]
		if len(o.Rules) == 0 {
			continue
		}
		if !shown {
			fmt.Fprintln(w, "\nRules")
			shown = true
		}
		fmt.Fprintf(w, "%s %s\n", o.Id, o.Version)
		for _, sentence := range o.Rules {
			if _, err := fmt.Fprintf(w, "  %s\n", printable(sentence)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addChangedRules adds to a plan what becomes of an operation's rules, in the last column: before are the cells of the others.
func addChangedRules(t *table, o api.OperationChange, before ...cell) {
	for _, sentence := range o.Rules {
		t.add(append(before[:len(before):len(before)], cell{"  " + sentence, faint})...)
	}
}

// touched are the operations that publishing a document does something to.
func touched(p *api.Plan) (operations []api.OperationChange) {
	for _, o := range p.Operations {
		if o.Change != api.OperationUnchanged {
			operations = append(operations, o)
		}
	}
	return operations
}

// addStepRules adds to the plan of apply the operations of a step whose rules change.
func addStepRules(t *table, s *step) {
	for _, o := range s.Operations {
		if len(o.Rules) > 0 {
			before := []cell{{}, {}, {}}
			t.add(append(before, cell{o.Id, yellow})...)
			addChangedRules(t, o, before...)
		}
	}
}
