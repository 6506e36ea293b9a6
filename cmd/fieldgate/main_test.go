package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"fieldgate/test/port"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fieldgate": main})
}

// TestScripts runs the manual: each file of testdata/script is a story with the real program, and with curl, mosquitto_pub and
// coap-client-notls as its devices.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("EXAMPLES", examplesFolder)
			for _, name := range []string{"HTTP", "HTTPS", "MQTT", "COAP", "COAPS", "COAP_TCP", "COAPS_TCP", "ADMIN"} {
				address := port.Free(t)
				env.Setenv(name, address)
				env.Setenv(name+"_PORT", address[strings.LastIndexByte(address, ':')+1:])
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"ports": ports, "await": await, "postgres": startPostgres(t)},
	})
}

var examplesFolder = func() string {
	folder, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return strings.TrimSuffix(folder, "cmd/fieldgate") + "examples"
}()

// ports replaces the usual addresses in an environment file by those of $HTTP, $MQTT, $COAP and $ADMIN.
func ports(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ports FILE")
	}
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	for name, usual := range map[string]string{"HTTP": "127.0.0.1:8080", "MQTT": "127.0.0.1:1883", "COAP": "127.0.0.1:5683", "ADMIN": "127.0.0.1:8090"} {
		text = bytes.ReplaceAll(text, []byte(usual), []byte(ts.Getenv(name)))
	}
	ts.Check(os.WriteFile(path, text, 0o644))
}

// await repeats a command until it succeeds, or with ! until it fails. The time it may take only bounds a failing test.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: [!] await COMMAND [ARGUMENT...]")
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("still not so: %s: %v", strings.Join(args, " "), err)
		}
	}
}
