package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate/test/nats"
	"fieldgate/test/postgres"
)

// installations are one node on each engine.
func installations(t *testing.T) map[string]*node {
	server := postgres.New(t)
	e := &engines{server, server.Database(t), nats.New(t, 1, "")}
	return map[string]*node{"SQLite": newNode(t, nil), "PostgreSQL": e.member(t, "control", "c1")}
}

// importUntil sends an import and stops listening at the first line of the answer for which enough says so; then it may be killed. It gives
// the ids that were acknowledged, and whether the import was told to be done.
func (n *node) importUntil(mode string, lines []byte, enough func(acknowledged int, line []byte) bool) (acknowledged int, done bool) {
	n.t.Helper()
	token, err := os.ReadFile(filepath.Join(n.folder, "data", "operator.token"))
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, "http://localhost/api/v1/imports/devices?mode="+mode, bytes.NewReader(lines))
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/x-ndjson")
	client := n.socket()
	client.Timeout = 0
	response, err := client.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	answer := bufio.NewScanner(response.Body)
	for answer.Scan() {
		var line struct {
			Token         string
			Done, Applied bool
		}
		if err := json.Unmarshal(answer.Bytes(), &line); err != nil {
			n.t.Fatalf("%s: %v", answer.Bytes(), err)
		}
		if line.Token != "" {
			acknowledged++
		}
		if line.Done {
			return acknowledged, line.Applied
		}
		if enough(acknowledged, answer.Bytes()) {
			break
		}
	}
	return acknowledged, false
}

func (n *node) deviceCount() (count int) {
	n.t.Helper()
	var status struct{ Devices int }
	if err := json.Unmarshal([]byte(n.run("status", "--output", "json")), &status); err != nil {
		n.t.Fatal(err)
	}
	return status.Devices
}

// A node is killed in the middle of an import. Of one that is to be done wholly or not at all nothing is there unless it was decided;
// of one of the good lines every device is there whose token was told. Sent again, both complete.
func TestFaultKillDuringImport(t *testing.T) {
	t.Parallel() // it mostly waits
	size := 10_000
	if os.Getenv("FIELDGATE_SOAK_ROUNDS") != "" {
		size = 200_000
	}
	for name, n := range installations(t) {
		n.start()
		n.cutImport(t, name, "all", size)
		n.cutImport(t, name, "good", size)
	}
}

func (n *node) cutImport(t *testing.T, name, mode string, size int) {
	var lines bytes.Buffer
	for i := range size {
		fmt.Fprintf(&lines, "{\"id\":\"%s%d\"}\n", mode, i)
	}
	before, from := n.deviceCount(), rand.IntN(size/4)+size/4
	acknowledged, done := n.importUntil(mode, lines.Bytes(), func(acknowledged int, line []byte) bool {
		var progress struct{ Checked int }
		json.Unmarshal(line, &progress)
		return acknowledged >= from || progress.Checked > 0
	})
	n.kill()
	n.start()
	registered := n.deviceCount() - before
	t.Logf("%s, %s: killed after %d of %d tokens, %d devices are there", name, mode, acknowledged, size, registered)
	switch {
	case done:
		t.Errorf("%s, %s: the import was too fast to be killed", name, mode)
	case mode == "all" && acknowledged == 0 && registered != 0 && registered != size:
		t.Errorf("%s: %d of %d devices of an import of all or nothing are there", name, registered, size)
	case mode == "good" && (registered < acknowledged || registered%500 != 0):
		t.Errorf("%s: %d devices are there, %d were acknowledged", name, registered, acknowledged)
	}
	again, _ := n.importUntil(mode, lines.Bytes(), func(int, []byte) bool { return false })
	if again+registered != size || n.deviceCount()-before != size {
		t.Errorf("%s, %s: the second time %d of %d were registered, %d were there", name, mode, again, size, registered)
	}
}

// Tools of the database are killed. A backup is there whole or not at all; a database is the one before the restore or the one after it;
// run again they complete.
func TestFaultKillDuringBackup(t *testing.T) {
	t.Parallel() // it mostly waits
	rounds, backedUp := soakRounds(t, 2, 1), 5_000
	if os.Getenv("FIELDGATE_SOAK_ROUNDS") != "" {
		backedUp = 20_000
	}
	for name, n := range installations(t) {
		n.start()
		var lines bytes.Buffer
		for i := range backedUp {
			fmt.Fprintf(&lines, "{\"id\":\"d%d\"}\n", i)
		}
		n.importUntil("good", lines.Bytes(), func(int, []byte) bool { return false })
		whole := filepath.Join(n.folder, "whole.db")
		began := time.Now()
		n.run("db", "backup", whole)
		usual := time.Since(began)
		for round := range rounds {
			file := filepath.Join(n.folder, fmt.Sprintf("backup%d.db", round))
			n.killTool(rand.N(usual), "db", "backup", file)
			if _, err := os.Stat(file); err == nil {
				n.run("db", "verify", file)
			} else if _, err := n.try("db", "backup", file); err != nil {
				// It cannot know whether another one is at work, and says what to do.
				if !strings.Contains(err.Error(), "remove the file") {
					t.Errorf("%s: after a backup that was killed: %v", name, err)
				}
				if err := os.Remove(file + ".partial"); err != nil {
					t.Error(err)
				}
				n.run("db", "backup", file)
			}
			n.run("db", "verify", file)
		}
		n.run("device", "add", "later")
		n.stop()
		replace := []string{"db", "restore", whole}
		if name == "PostgreSQL" {
			replace = append(replace, "--replace")
		}
		// What a restore of an SQLite file keeps of the one before is never overwritten by the next: it says so.
		kept := 0
		aside := func() {
			former := filepath.Join(n.folder, "data", "fieldgate.db.before-restore")
			if os.Rename(former, fmt.Sprint(former, kept)) == nil {
				kept++
			}
		}
		killed := 0
		for range rounds {
			aside()
			if n.killTool(rand.N(usual), replace...) {
				killed++
			}
			// Before or after; or a database that no node takes, which says what to do.
			check := filepath.Join(t.TempDir(), "check.db")
			if text, err := n.try("db", "backup", check); err != nil {
				if !strings.Contains(err.Error(), "repeat") {
					t.Errorf("%s: after a restore that was killed: %v", name, err)
				}
			} else if !strings.Contains(text, fmt.Sprint(backedUp)) && !strings.Contains(text, fmt.Sprint(backedUp+1)) {
				t.Errorf("%s: after a restore that was killed there is %s", name, text)
			}
		}
		aside()
		n.run(replace...)
		n.start()
		if count := n.deviceCount(); count != backedUp {
			t.Errorf("%s: %d devices after the restore", name, count)
		}
		t.Logf("%s: a backup takes %v; %d of %d restores were killed before they ended", name, usual.Round(time.Millisecond), killed, rounds)
	}
}

// killTool kills a command after a while, and says whether it had not ended before.
func (n *node) killTool(after time.Duration, args ...string) bool {
	n.t.Helper()
	command := exec.Command(build(n.t), append(args, "--config", n.config)...)
	if err := command.Start(); err != nil {
		n.t.Fatal(err)
	}
	time.Sleep(after)
	command.Process.Kill()
	command.Wait()
	return !command.ProcessState.Exited()
}
