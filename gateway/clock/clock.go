// Package clock is the monotonic time of the data path: one look at it costs half of what time.Now does, which looks at two clocks, and
// nobody who sets the machine's clock moves it.
package clock

import "time"

var start = time.Now()

// Now is how long the process has run.
func Now() time.Duration { return time.Since(start) }

// Of is what Now was at a time that time.Now gave, or Time did.
func Of(t time.Time) time.Duration { return t.Sub(start) }

// Time is the time at which Now is d.
func Time(d time.Duration) time.Time { return start.Add(d) }
