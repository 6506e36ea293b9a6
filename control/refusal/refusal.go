// Package refusal types what the control plane refuses, once for all capabilities; the admin API renders it as problem
// details. Any other error is an internal one, of which callers learn nothing.
package refusal

import "fmt"

// Code says what sort of refusal it is.
type Code string

const (
	CodeInvalid  Code = "invalid"
	CodeNotFound Code = "not-found"
	CodeConflict Code = "conflict"
)

// Error is a refusal. Detail says to the operator what is wrong and what to do about it.
type Error struct {
	Code   Code
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// Invalid refuses an input that can never be accepted.
func Invalid(format string, v ...any) error { return &Error{CodeInvalid, fmt.Sprintf(format, v...)} }

// NotFound refuses a decision about something that is not there.
func NotFound(format string, v ...any) error { return &Error{CodeNotFound, fmt.Sprintf(format, v...)} }

// Conflict refuses a decision that does not fit the present state.
func Conflict(format string, v ...any) error { return &Error{CodeConflict, fmt.Sprintf(format, v...)} }
