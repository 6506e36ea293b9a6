// Package refusal types what the control plane refuses, once for all capabilities; the admin API renders it as problem
// details. Any other error is an internal one, of which callers learn nothing.
package refusal

import (
	"fmt"
	"time"
)

// Code says what sort of refusal it is.
type Code string

const (
	CodeInvalid         Code = "invalid"
	CodeNotFound        Code = "not-found"
	CodeConflict        Code = "conflict"
	CodeChanged         Code = "changed" // decided for a state that is no longer the present one
	CodeInProgress      Code = "in-progress"
	CodeReusedKey       Code = "reused-key"
	CodeUnauthenticated Code = "unauthenticated"
	CodeForbidden       Code = "forbidden"
	CodeRateLimited     Code = "rate-limited"
	CodeOverloaded      Code = "overloaded"
)

// Error is a refusal. Detail says to the operator what is wrong and what to do about it.
type Error struct {
	Code       Code
	Detail     string
	RetryAfter time.Duration // with rate-limited and overloaded
}

func (e *Error) Error() string { return e.Detail }

// Invalid refuses an input that can never be accepted.
func Invalid(format string, v ...any) error { return refuse(CodeInvalid, format, v) }

// NotFound refuses a decision about something that is not there.
func NotFound(format string, v ...any) error { return refuse(CodeNotFound, format, v) }

// Conflict refuses a decision that does not fit the present state.
func Conflict(format string, v ...any) error { return refuse(CodeConflict, format, v) }

// Changed refuses a decision that was made for an older state.
func Changed(format string, v ...any) error { return refuse(CodeChanged, format, v) }

// InProgress refuses a request whose first sending is not answered yet.
func InProgress(format string, v ...any) error { return refuse(CodeInProgress, format, v) }

// ReusedKey refuses another request under the key of an earlier one.
func ReusedKey(format string, v ...any) error { return refuse(CodeReusedKey, format, v) }

// Unauthenticated refuses who is not known.
func Unauthenticated(format string, v ...any) error { return refuse(CodeUnauthenticated, format, v) }

// Forbidden refuses who is known, but may not.
func Forbidden(format string, v ...any) error { return refuse(CodeForbidden, format, v) }

func refuse(code Code, format string, v []any) error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, v...)}
}
