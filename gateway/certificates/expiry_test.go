package certificates

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestExpiry(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		life, age time.Duration
		want      mark
		text      string
	}{
		{365 * day, -time.Minute, notBegun, "compare the clocks"},
		{365 * day, 0, inLife, ""},
		{365 * day, 335 * day, inLife, ""},
		{365 * day, 335*day + time.Hour, endsSoon, "in 29 days"},
		{365 * day, 358*day + time.Hour, endsNow, "in 6 days"},
		{365 * day, 364*day + time.Hour, endsNow, "in 23 hours"},
		{365 * day, 365*day - 40*time.Minute, endsNow, "in 40 minutes"},
		{365 * day, 365*day - 40*time.Second, endsNow, "in less than a minute"},
		{365 * day, 365 * day, ended, "it expired on 2027-01-01T00:00:00Z"},
		{6 * day, 3 * day, inLife, ""}, // short-lived: a third and a tenth of its life
		{6 * day, 5 * day, endsSoon, "in 24 hours"},
		{24 * time.Hour, 12 * time.Hour, inLife, ""},
		{24 * time.Hour, 22 * time.Hour, endsNow, "in 2 hours"},
	} {
		got, text := expiry(&x509.Certificate{NotBefore: begin, NotAfter: begin.Add(test.life)}, begin.Add(test.age))
		if got != test.want || !strings.Contains(text, test.text) || (text == "") != (test.want == inLife) {
			t.Errorf("%v of %v: %d %q, want %d %q", test.age, test.life, got, text, test.want, test.text)
		}
	}
}
