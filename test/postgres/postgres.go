// Package postgres runs private PostgreSQL servers for tests, of Debian's package postgresql-15: on the loopback interface, with
// a folder of their own, and ended when the test process ends, however it ends.
package postgres

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx

	"fieldgate/test/port"
)

const (
	programs = "/usr/lib/postgresql/15/bin"
	account  = "postgres" // PostgreSQL refuses to run as root; Debian's package makes this user
	role     = "fieldgate"
	password = "correct horse"
	// startLimit only bounds a failing test.
	startLimit = time.Minute
)

var (
	startShared sync.Mutex
	shared      *Server
)

// Start gives the URL of a new, empty database on a server that the tests of this process share.
func Start(t testing.TB) string {
	t.Helper()
	startShared.Lock()
	defer startShared.Unlock()
	if shared == nil {
		server := create(t, 0)
		server.Start(t)
		shared = server
	}
	return shared.Database(t)
}

// Server is a PostgreSQL server that a test stops, kills and starts again.
type Server struct {
	folder  string
	address string
	small   bool // the folder is a file system of its own

	mu        sync.Mutex
	databases int
	keeper    *exec.Cmd      // of the running server
	stdin     io.WriteCloser // of the keeper; when it ends, so does the server
	pid       int            // of the server
}

// New starts a server for one test, which ends with it.
func New(t testing.TB) *Server {
	t.Helper()
	return begin(t, create(t, 0))
}

// NewSmall starts a server for one test on a disk of its own of so many MiB, which needs root.
func NewSmall(t testing.TB, megabytes int) *Server {
	t.Helper()
	return begin(t, create(t, megabytes))
}

func begin(t testing.TB, s *Server) *Server {
	t.Helper()
	t.Cleanup(func() {
		s.end(syscall.SIGQUIT)
		if s.small {
			exec.Command("umount", "-l", s.folder).Run()
		}
		os.RemoveAll(s.folder)
	})
	s.Start(t)
	return s
}

// create makes the folder of a server: durable as in production, comparing texts by a language's rules as many do, and asking
// for a password. With megabytes the folder is a disk of its own of that size.
func create(t testing.TB, megabytes int) *Server {
	t.Helper()
	if _, err := os.Stat(filepath.Join(programs, "postgres")); err != nil {
		t.Fatalf("PostgreSQL is missing: install Debian's package postgresql-15 (%v)", err)
	}
	folder, err := os.MkdirTemp("", "fieldgate-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	if megabytes > 0 {
		mount := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0700", megabytes), "fieldgate-test", folder)
		if output, err := mount.CombinedOutput(); err != nil {
			t.Fatalf("mount: %v %s", err, output)
		}
	}
	s := &Server{folder: folder, address: port.Free(t), small: megabytes > 0}
	secret := filepath.Join(folder, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	if id := identity(t); id != nil {
		for _, path := range []string{folder, secret} {
			if err := os.Chown(path, int(id.Uid), int(id.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	initdb := s.command(t, filepath.Join(programs, "initdb"), "--pgdata", s.data(), "--username", role, "--pwfile", secret, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US", "--no-sync")
	if output, err := initdb.CombinedOutput(); err != nil {
		os.RemoveAll(folder)
		t.Fatalf("initdb: %v\n%s", err, output)
	}
	return s
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// identity is the user that runs the programs, unless it is the one that runs the tests.
func identity(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	found, err := user.Lookup(account)
	if err != nil {
		t.Fatalf("root cannot run PostgreSQL, and there is no user %s: install Debian's package postgresql-15 (%v)", account, err)
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *Server) command(t testing.TB, name string, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(name, arguments...)
	command.Dir = s.folder
	command.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: identity(t), Setpgid: true}
	return command
}

// keeper starts the server and says its process id. Its standard input ends when the test process is gone, however that ended:
// then it ends the server too, and removes the folder unless it is told to keep it.
const keeper = `"$@" >>log 2>&1 &
echo $!
read -r word
kill -QUIT $! 2>/dev/null
wait $!
test "$word" = keep || { folder=$PWD; cd / && rm -rf "$folder"; }
`

// Start starts a server that was stopped or killed, or has ended by itself, and returns when it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(syscall.SIGQUIT) // the keeper of one that has ended by itself would remove the folder
	for limit := time.Now().Add(startLimit); ; time.Sleep(50 * time.Millisecond) {
		err := s.launch(t)
		if err == nil {
			return
		}
		// Processes of a server that was killed may still hold its shared memory for a moment.
		log, _ := os.ReadFile(filepath.Join(s.folder, "log"))
		if time.Now().After(limit) || !strings.Contains(string(log), "shared memory") {
			t.Fatalf("PostgreSQL does not start: %v\n%s", err, log)
		}
	}
}

func (s *Server) launch(t testing.TB) error {
	host, number, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	s.keeper = s.command(t, "/bin/sh", "-c", keeper, "sh", filepath.Join(programs, "postgres"), "-D", s.data(), "-h", host, "-p", number, "-k", s.folder,
		"-c", "max_connections=300", "-c", "shared_buffers=32MB", "-c", "log_statement=none")
	if s.stdin, err = s.keeper.StdinPipe(); err != nil {
		return err
	}
	out, err := s.keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.keeper.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	for limit := time.Now().Add(startLimit); err == nil; time.Sleep(10 * time.Millisecond) {
		if err = s.execute("SELECT 1"); err == nil {
			return nil
		}
		if time.Now().Before(limit) && running(s.pid) {
			err = nil
		}
	}
	s.end(syscall.SIGQUIT)
	return err
}

// running says whether a process is there and no zombie, which it is until the keeper has waited for it.
func running(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(status), ") Z ")
}

// Stop ends the server in good order, but does not wait for its clients.
func (s *Server) Stop() { s.locked(syscall.SIGINT) }

// Kill ends the server as a crash does.
func (s *Server) Kill() { s.locked(syscall.SIGKILL) }

func (s *Server) locked(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(signal)
}

// Folder is where the server keeps everything.
func (s *Server) Folder() string { return s.folder }

// Running says whether the server has not ended, by itself or otherwise.
func (s *Server) Running() bool { return running(s.pid) }

// Pause stops the server and all its processes as a machine that hangs does: its connections stay open. Continue undoes it.
func (s *Server) Pause() { s.each(syscall.SIGSTOP) }

// Continue undoes Pause.
func (s *Server) Continue() { s.each(syscall.SIGCONT) }

// each signals the server, first, and then the processes that it has started.
func (s *Server) each(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	syscall.Kill(s.pid, signal)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid)) // it has one thread
	for child := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			syscall.Kill(pid, signal)
		}
	}
}

// end sends a signal to the server and returns when it has ended. The folder stays.
func (s *Server) end(signal syscall.Signal) {
	if s.keeper == nil {
		return
	}
	syscall.Kill(s.pid, syscall.SIGCONT) // it may be paused
	syscall.Kill(s.pid, signal)
	for running(s.pid) {
		time.Sleep(5 * time.Millisecond)
	}
	io.WriteString(s.stdin, "keep\n")
	s.stdin.Close()
	s.keeper.Wait()
	s.keeper = nil
}

// Database creates an empty database and gives its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	s.mu.Unlock()
	if err := s.execute("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}

// Execute runs a statement as the server's superuser, outside of all databases of tests.
func (s *Server) Execute(t testing.TB, statement string) {
	t.Helper()
	if err := s.execute(statement); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) execute(statement string) error {
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func (s *Server) url(database string) string {
	location := url.URL{Scheme: "postgres", User: url.UserPassword(role, password), Host: s.address, Path: database, RawQuery: "sslmode=disable"}
	return location.String()
}
