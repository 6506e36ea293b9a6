package adminapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"fieldgate/control/refusal"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// page is what a list was asked for: how many entries after which place.
type page struct {
	after     string
	limit     int
	selection string // the list, its filter and order, to which cursors are bound
}

const sealBytes = 8

// newPage reads a cursor that next made for the same selection: the list, and its filter and order where it has them.
func newPage(cursor string, limit int, selection ...string) (p page, err error) {
	p.selection = strings.Join(selection, "\x00")
	if p.limit, err = bounded("limit", limit, defaultLimit, maxLimit); err != nil || cursor == "" {
		return p, err
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(decoded) <= sealBytes || !bytes.Equal(decoded[:sealBytes], p.seal(string(decoded[sealBytes:]))) {
		return p, errCursor()
	}
	if p.after = string(decoded[sealBytes:]); !isText(p.after) {
		return p, errCursor()
	}
	return p, nil
}

func errCursor() error {
	return refusal.Invalid("The cursor is none that a page of this list with this filter and order gave: leave it out to begin anew.")
}

// seal is a checksum, by which a cursor that was cut, altered or taken from another list is told. It keeps no secret: whoever makes up a
// cursor chooses a place in a list that they may read anyway.
func (p *page) seal(place string) []byte {
	sum := sha256.Sum256([]byte(p.selection + "\x00\x00" + place))
	return sum[:sealBytes]
}

// next is the cursor of the page that follows a place.
func (p *page) next(place string) string {
	return base64.RawURLEncoding.EncodeToString(append(p.seal(place), place...))
}

// nextAt is next for a place of several parts.
func (p *page) nextAt(parts ...string) string {
	encoded, err := json.Marshal(parts)
	if err != nil {
		panic(err) // plain strings
	}
	return p.next(string(encoded))
}

// parts reads a place that nextAt wrote; nil at the beginning.
func (p *page) parts(count int) (parts []string, err error) {
	if p.after == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(p.after), &parts); err != nil || len(parts) != count {
		return nil, errCursor()
	}
	return parts, nil
}

// cut is the entries of a page and whether more follow, from one entry more than the page holds.
func cut[T any](list []T, p page) (entries []T, more bool) {
	if len(list) > p.limit {
		return list[:p.limit], true
	}
	return list, false
}

func timePart(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }

func parseTimePart(text string) (time.Time, error) {
	milliseconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, errCursor()
	}
	return time.UnixMilli(milliseconds).UTC(), nil
}

// bounded is a number between 1 and most; 0 stands for the default.
func bounded(name string, value, otherwise, most int) (int, error) {
	if value == 0 {
		return otherwise, nil
	}
	if value < 0 || value > most {
		return 0, refusal.Invalid("The parameter %s must be between 1 and %d.", name, most)
	}
	return value, nil
}
