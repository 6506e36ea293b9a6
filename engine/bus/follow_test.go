package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Whoever follows has the newest of each subject, however often they were replaced before.
func testFollow(t *testing.T, b *Bus) {
	stream := ownStream(t)
	stream.Latest, stream.MaxAge = true, 0
	keep(t, b, stream)
	prefix := strings.TrimSuffix(stream.Subjects[0], ">")
	put := func(name, value string) {
		t.Helper()
		after := uint64(0)
		if before, err := b.Latest(t.Context(), stream.Name, prefix+name); err == nil {
			after = before.Sequence
		}
		if _, err := b.Put(t.Context(), prefix+name, []byte(value), after, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		for _, name := range []string{"a", "b", "c"} {
			put(name, fmt.Sprint(i))
		}
	}
	newest := make(map[string]string)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	wrote := false
	err := b.Follow(ctx, stream.Name, 2, func(entries []Entry) error {
		for _, e := range entries {
			if e.Age < 0 || e.Age > patience {
				t.Errorf("%s is %v old", e.Subject, e.Age)
			}
			newest[strings.TrimPrefix(e.Subject, prefix)] = string(e.Data)
		}
		switch fmt.Sprint(newest) {
		case "map[a:2 b:2 c:2]":
			if !wrote {
				wrote = true
				put("b", "3")
			}
		case "map[a:2 b:3 c:2]":
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err, newest)
	}
}
