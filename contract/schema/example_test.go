package schema_test

import (
	"fmt"

	"fieldgate/contract/schema"
)

func Example() {
	bundle := `{"$defs":{"Telemetry":{"type":"object","additionalProperties":false,"required":["temp"],
		"properties":{"temp":{"type":"number","maximum":125,"x-cbor-key":1}}}}}`
	compiler, err := schema.NewCompiler([]byte(bundle), schema.Options{})
	if err != nil {
		panic(err)
	}
	telemetry, err := compiler.Compile("#/$defs/Telemetry")
	if err != nil {
		panic(err)
	}
	fmt.Println(telemetry.ValidateJSON([]byte(`{"temp":21.5}`)))
	fmt.Println(telemetry.ValidateJSON([]byte(`{"temp":21000}`)))
	fmt.Println(telemetry.ValidateCBOR([]byte{0xa1, 0x01, 0x18, 0x7e})) // {1: 126}
	// Output:
	// <nil>
	// /temp: 21000 is greater than the maximum 125 (/properties/temp/maximum)
	// /temp: 126 is greater than the maximum 125 (/properties/temp/maximum)
}
