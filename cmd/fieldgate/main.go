// Command fieldgate is the whole product in one binary: it serves (init, serve, demo), and it is the client of the admin API
// with which operators publish contracts, admit devices and apps, and watch traffic.
//
// The answer of a command goes to standard output, everything else to standard error. It exits with 0 on success, 1 on
// failure, 2 when it was called wrongly and 130 when a signal ended it before it was done.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

const (
	exitFailure = 1
	exitUsage   = 2
	exitSignal  = 130
)

func main() {
	// The first signal ends the command in good order. From then on signals do what they do by default: a second one ends it
	// at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	c := &cli{output: formatTable}
	command, err := newRoot(c).ExecuteContextC(ctx)
	if err == nil {
		return
	}
	if errors.Is(err, context.Canceled) || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		printError(os.Stderr, c.output, errors.New("interrupted"))
		os.Exit(exitSignal)
	}
	printError(os.Stderr, c.output, err)
	if usage := new(usageError); errors.As(err, &usage) {
		hintUsage(os.Stderr, command)
		os.Exit(exitUsage)
	}
	os.Exit(exitFailure)
}
