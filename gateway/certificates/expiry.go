package certificates

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"
)

const day = 24 * time.Hour

// mark is how far a certificate's life has gone.
type mark int

const (
	inLife mark = iota
	endsSoon
	endsNow
	ended
	notBegun
)

// expiry is the mark that a certificate has passed, and what is said of it: 30 and 7 days before it expires, and when it has. Of one
// that lives for days only, a third and a tenth of its life count.
func expiry(leaf *x509.Certificate, now time.Time) (mark, string) {
	life, left := leaf.NotAfter.Sub(leaf.NotBefore), leaf.NotAfter.Sub(now)
	switch {
	case now.Before(leaf.NotBefore):
		return notBegun, "it is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339) + ", so that clients refuse it: compare the clocks"
	case left <= 0:
		return ended, "it expired on " + leaf.NotAfter.UTC().Format(time.RFC3339) + ", so that clients refuse it"
	case left < min(7*day, life/10):
		return endsNow, "it expires " + in(left)
	case left < min(30*day, life/3):
		return endsSoon, "it expires " + in(left)
	}
	return inLife, ""
}

func in(left time.Duration) string {
	switch {
	case left < time.Minute:
		return "in less than a minute"
	case left < 2*time.Hour:
		return fmt.Sprintf("in %d minutes", int(left/time.Minute))
	case left < 2*day:
		return fmt.Sprintf("in %d hours", int(left/time.Hour))
	}
	return fmt.Sprintf("in %d days", int(left/day))
}

// warn logs each mark once, and says whether it was passed now.
func (c *Certificates) warn(s *status, now time.Time) bool {
	if s.certificate == nil {
		return false
	}
	passed, text := expiry(s.certificate.Leaf, now)
	if passed == s.warned {
		return false
	}
	s.warned = passed
	level := slog.LevelError
	switch passed {
	case inLife:
		return true
	case endsSoon:
		level = slog.LevelWarn
	}
	c.config.Logger.Log(context.Background(), level, "a certificate has to be replaced: "+text, "names", names(s.certificate.Leaf))
	return true
}
