package test

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"fieldgate/test/nats"
	"fieldgate/test/postgres"
	"fieldgate/test/smalldisk"
)

// Each part of a cluster runs out of disk, one after the other. Traffic goes on; what is decided is in force or refused with words; when
// there is room again everything goes on by itself, with every exchange counted once.
func TestFaultDisk(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	g1, c1 := e.member(t, "gateway", "g1"), e.member(t, "control", "c1")
	smalldisk.Mount(t, filepath.Join(g1.folder, "data"), 8)
	c := newCluster(t, e, []*node{c1}, []*node{g1, e.member(t, "gateway", "g2")})

	// Records of a gateway whose disk is full go to the bus from memory, and decisions count all the same.
	give := func() {}
	data := filepath.Join(g1.folder, "data")
	c.endure(fault{name: "the disk of a gateway", cut: func() { give = smalldisk.Fill(t, data) }, traffic: 1000, mend: func() { give() }})
	if !strings.Contains(g1.log.String(), "the outbox cannot be written") {
		t.Errorf("the gateway does not say that its disk is full:\n%s", g1.log)
	}

	// Nor does it need its disk to start: what it could not write down it is told again.
	give = smalldisk.Fill(t, data)
	gone := c1.run("device", "add", "gone", "--quiet")
	greets := func(token string, want int) {
		t.Helper()
		wait(t, fmt.Sprintf("g1 to answer with %d", want), func() bool { status, err := c.greet(g1, token); return err == nil && status == want })
	}
	greets(gone, http.StatusOK)
	c1.run("device", "revoke", "gone")
	greets(gone, http.StatusUnauthorized)
	c1.waitForExchanges(c.total)
	g1.kill()
	g1.start()
	greets(gone, http.StatusUnauthorized)
	greets(c.token, http.StatusOK)
	give()
	c1.waitForExchanges(c.total)
	g1.kill()
	g1.start()
	greets(gone, http.StatusUnauthorized)
	greets(c.token, http.StatusOK)
	c1.waitForExchanges(c.total)
}

// The disk of one NATS server of three is full: the other two go on. That server is well again after it was restarted with room.
func TestFaultDiskOfBus(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	e.nats.Kill(0)
	smalldisk.Mount(t, e.nats.Folder(0), 24)
	e.nats.Start(0)
	e.nats.Ready()
	c := newCluster(t, e, []*node{e.member(t, "control", "c1")}, []*node{e.member(t, "gateway", "g1")})
	give := func() {}
	c.endure(fault{name: "the disk of a NATS server", cut: func() { give = smalldisk.Fill(t, e.nats.Folder(0)) }, mend: func() {
		give()
		e.nats.Kill(0)
		e.nats.Start(0)
	}})
	e.nats.Ready()
	c.endure(fault{name: "another NATS server", cut: func() { e.nats.Kill(1) }, mend: func() { e.nats.Start(1) }})
}

// The disk of the database is full: decisions are refused with 507 or 503, traffic is counted later, and all that was acknowledged is
// there when there is room again.
func TestFaultDiskOfDatabase(t *testing.T) {
	t.Parallel() // it mostly waits
	server := postgres.NewSmall(t, 192)
	e := &engines{server, server.Database(t), nats.New(t, 3, "")}
	others, err := sql.Open("pgx", e.database)
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	c := newCluster(t, e, []*node{e.member(t, "control", "c1")}, []*node{e.member(t, "gateway", "g1")})
	control := c.controls[0]
	give := func() {}
	acknowledged := 0
	add := func() decision {
		d := control.decide(fmt.Sprintf("kept%d", acknowledged+1))
		if d.status == http.StatusCreated {
			acknowledged++
		}
		return d
	}
	c.endure(fault{name: "the disk of the database", refused: true, full: true, cut: func() {
		give = smalldisk.Fill(t, e.postgres.Folder())
		var last decision
		wait(t, "a decision to be refused", func() bool { last = add(); return last.status != http.StatusCreated })
		if last.status != http.StatusInsufficientStorage && last.status != http.StatusServiceUnavailable || !strings.Contains(last.body, "disk") && !strings.Contains(last.body, "database") {
			t.Errorf("a decision on a full disk: %d %s", last.status, last.body)
		}
		// Counting goes on as long as it fits into pages and files that are there: others write to the database until it cannot.
		wait(t, "the console to be told that traffic is not counted", func() bool {
			others.Exec("SELECT pg_logical_emit_message(false, '', repeat('x', 100000))") // fails in the end
			_, ingestion := c.watchers[control].find("ingestion", "")
			_, away := c.watchers[control].find("store", "")
			return ingestion || away
		})
	}, mend: func() {
		give()
		wait(t, "the database to answer", func() bool {
			if !e.postgres.Running() { // its log could not be written, so it ended itself
				t.Log("PostgreSQL had ended itself, and was started again by hand")
				e.postgres.Start(t)
			}
			return others.Ping() == nil
		})
	}})
	for i := 1; i <= acknowledged; i++ {
		if status, body, err := control.ask(http.MethodGet, fmt.Sprintf("/api/v1/devices/kept%d", i), nil); err != nil || status != http.StatusOK {
			t.Fatalf("device %d of %d that were acknowledged: %d %s %v", i, acknowledged, status, body, err)
		}
	}
	t.Logf("%d devices were acknowledged, and are there", acknowledged)
}
