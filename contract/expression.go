package contract

import (
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
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
		ext.Strings(), ext.Math(), ext.Encoders(), cel.OptionalTypes(), boundedStrings(),
	)
	if err != nil {
		panic(err) // the environment is constant
	}
	return env
}

// maxText bounds a text that an expression makes, in bytes.
const maxText = 4 << 20

var errText = types.NewErr("a text of more than %d bytes", maxText)

// boundedStrings replaces the functions whose result can be larger than all that they are given: CEL counts their cost only when the
// memory is taken.
func boundedStrings() cel.EnvOption {
	text := func(v ref.Val) string { return string(v.(types.String)) }
	replace := func(args ...ref.Val) ref.Val {
		s, old, by, most := text(args[0]), text(args[1]), text(args[2]), -1
		if len(args) == 4 {
			most = int(args[3].(types.Int))
		}
		found := strings.Count(s, old)
		if most >= 0 {
			found = min(found, most)
		}
		if found > 0 && len(by) > (maxText-len(s))/found {
			return errText
		}
		return types.String(strings.Replace(s, old, by, most))
	}
	join := func(args ...ref.Val) ref.Val {
		list, between := args[0].(traits.Lister), ""
		if len(args) == 2 {
			between = text(args[1])
		}
		var joined strings.Builder
		for items, first := list.Iterator(), true; items.HasNext() == types.True; first = false {
			item, ok := items.Next().(types.String)
			if !ok {
				return types.NewErr("join takes texts only")
			}
			if joined.Len()+len(between)+len(item) > maxText {
				return errText
			}
			if !first {
				joined.WriteString(between)
			}
			joined.WriteString(string(item))
		}
		return types.String(joined.String())
	}
	one, list := cel.StringType, cel.ListType(cel.StringType)
	return cel.Lib(library{
		cel.Function("replace",
			cel.MemberOverload("string_replace_string_string", []*cel.Type{one, one, one}, one, cel.FunctionBinding(replace)),
			cel.MemberOverload("string_replace_string_string_int", []*cel.Type{one, one, one, cel.IntType}, one, cel.FunctionBinding(replace))),
		cel.Function("join",
			cel.MemberOverload("list_join", []*cel.Type{list}, one, cel.UnaryBinding(func(v ref.Val) ref.Val { return join(v) })),
			cel.MemberOverload("list_join_string", []*cel.Type{list, one}, one, cel.BinaryBinding(func(v, between ref.Val) ref.Val { return join(v, between) }))),
	})
}

// library is a set of CEL functions.
type library []cel.EnvOption

// CompileOptions implements cel.Library.
func (l library) CompileOptions() []cel.EnvOption { return l }

// ProgramOptions implements cel.Library.
func (library) ProgramOptions() []cel.ProgramOption { return nil }

// CheckExpression says what is wrong with a CEL expression.
func CheckExpression(expression string) error {
	_, issues := Expressions().Compile(expression)
	if issues.Err() == nil {
		return nil
	}
	first := issues.Errors()[0]
	return fmt.Errorf("column %d: %s", first.Location.Column()+1, first.Message)
}
