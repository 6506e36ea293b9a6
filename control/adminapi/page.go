package adminapi

import (
	"encoding/base64"

	"fieldgate/control/refusal"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// page is what a list was asked for: how many entries after which key.
type page struct {
	after string
	limit int
}

func newPage(cursor string, limit int) (page, error) {
	key, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return page{}, refusal.Invalid("The cursor is none that a page gave: leave it out to begin with the first page.")
	}
	limit, err = bounded("limit", limit, defaultLimit, maxLimit)
	return page{after: string(key), limit: limit}, err
}

func encodeCursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

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

// checkEnum refuses a word that the contract does not list; the empty one stands for none.
func checkEnum[E interface {
	~string
	Valid() bool
}](name string, value E) error {
	if value != "" && !value.Valid() {
		return refusal.Invalid("%.60q is no %s that is known.", string(value), name)
	}
	return nil
}
