package postgres

import (
	"testing"
)

func TestServerIsKilledAndStartsAgain(t *testing.T) {
	s := New(t)
	s.Execute(t, "CREATE TABLE kept (id INTEGER)")
	for _, end := range []func(){s.Kill, s.Stop} {
		end()
		if err := s.execute("SELECT 1"); err == nil {
			t.Fatal("it answers")
		}
		s.Start(t)
		s.Execute(t, "INSERT INTO kept VALUES (1)")
	}
}

func TestDatabasesAreApart(t *testing.T) {
	if first, second := Start(t), Start(t); first == second {
		t.Fatal(first)
	}
}
