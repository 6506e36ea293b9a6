package contract

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// Expressions knows the variables and functions that expressions of transformations have. Both the compiler and gateways use it, so
// that what was published can be run.
//
//	body       the message's content as JSON; null when it has none
//	headers    its header fields by lower-case name; of repeated ones the first
//	query      parameters of the query, by name; the first of each
//	path       parameters of the path, by name
//	principal  {id, kind, model, firmware}
//	status     of an answer; 0 in requests
var Expressions = sync.OnceValue(newExpressions) // most processes never need it

func newExpressions() *cel.Env {
	text := cel.MapType(cel.StringType, cel.StringType)
	env, err := cel.NewEnv(
		cel.Variable("body", cel.DynType), cel.Variable("headers", text), cel.Variable("query", text), cel.Variable("path", text),
		cel.Variable("principal", text), cel.Variable("status", cel.IntType),
		ext.Strings(), ext.Math(), ext.Encoders(), cel.OptionalTypes(),
	)
	if err != nil {
		panic(err) // the environment is constant
	}
	return env
}

// CheckExpression says what is wrong with a CEL expression.
func CheckExpression(expression string) error {
	_, issues := Expressions().Compile(expression)
	if issues.Err() == nil {
		return nil
	}
	first := issues.Errors()[0]
	return fmt.Errorf("column %d: %s", first.Location.Column()+1, first.Message)
}
