package pipeline

import (
	"fieldgate"
	"fieldgate/contract/schema"
)

// schemas compiles the schemas of one contract, each once.
type schemas struct {
	compiler *schema.Compiler
	compiled map[fieldgate.SchemaRef]*schema.Schema
	numbered bool // members have numbers in CBOR
}

func newSchemas(contract *fieldgate.Contract) (*schemas, error) {
	s := &schemas{compiled: make(map[fieldgate.SchemaRef]*schema.Schema), numbered: usesNumbers(contract)}
	if len(contract.Schemas) == 0 {
		return s, nil
	}
	var err error
	s.compiler, err = schema.NewCompiler(contract.Schemas, schema.Options{})
	return s, err
}

// compile is nil for the empty reference.
func (s *schemas) compile(ref fieldgate.SchemaRef) (*schema.Schema, error) {
	if ref == "" {
		return nil, nil
	}
	if compiled := s.compiled[ref]; compiled != nil {
		return compiled, nil
	}
	compiled, err := s.compiler.Compile(string(ref))
	if err != nil {
		return nil, err
	}
	s.compiled[ref] = compiled
	return compiled, nil
}
