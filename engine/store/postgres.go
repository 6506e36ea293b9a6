package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	postgresReaders = 8
	oldestPostgres  = 15
	connectTimeout  = 10 * time.Second
	// silenceTimeout ends a connection whose other end is gone without a word.
	silenceTimeout = 30 * time.Second
	hangTimeout    = "10s"
	lockClass      = 0x46474154 // "FGAT": tells our advisory locks from those of other programs
)

// session is what each connection asks of the server, unless the URL says otherwise. A node that dies or hangs within a
// transaction must not keep the others from writing for long: the server then ends it.
var session = map[string]string{
	"statement_timeout":                   "60s",
	"lock_timeout":                        "30s",
	"idle_in_transaction_session_timeout": "60s",
	"tcp_keepalives_idle":                 "15",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
	"tcp_user_timeout":                    "30000",
}

func (s *Store) openPostgres(ctx context.Context, location string, how opening) error {
	config, err := postgresConfig(location)
	if err != nil {
		return err
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = how.program
	}
	writing := config.Copy()
	if how.program == node {
		// A node's transactions hold the lane of all nodes and ask one thing after the other: one that hangs gives it back soon.
		writing.RuntimeParams["idle_in_transaction_session_timeout"] = hangTimeout
	}
	for lane := range s.write {
		s.write[lane] = openPool(writing, 1)
	}
	s.read = openPool(config, postgresReaders)
	return checkServer(ctx, s.read)
}

func openPool(config *pgx.ConnConfig, connections int) *sql.DB {
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(durable))
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

// durable undoes a default of the server or the user that would lose acknowledged commits in a crash; stronger ones stay.
func durable(ctx context.Context, connection *pgx.Conn) error {
	_, err := connection.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
	return err
}

func postgresConfig(location string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(location)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnsuitable, parseFailure(location, err))
	}
	for name, value := range session {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	dialer := net.Dialer{Timeout: config.ConnectTimeout, Control: boundSilence,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	// Of several hosts only the primary will do, for reading too: what was just decided must be seen.
	if config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// parseFailure is the innermost cause, which names the parameter that is wrong, unless it may repeat the password.
func parseFailure(location string, err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	parsed, unreadable := url.Parse(location)
	var whole *pgconn.ParseConfigError
	if unreadable != nil || errors.As(err, &whole) {
		return "its URL cannot be read; write postgres://USER@HOST:5432/DATABASE and percent-encode what is not a letter or digit in names and passwords"
	}
	password, _ := parsed.User.Password()
	for _, secret := range []string{password, parsed.Query().Get("password")} {
		if secret != "" && strings.Contains(err.Error(), secret) {
			return "a parameter of its URL cannot be used"
		}
	}
	return err.Error()
}

func postgresName(location string) string {
	parsed, err := url.Parse(location)
	if err != nil {
		return "postgres://…"
	}
	name := url.URL{Scheme: "postgres", Host: parsed.Host, Path: parsed.Path}
	if user := parsed.User.Username(); user != "" {
		name.User = url.User(user)
	}
	return name.String()
}

func checkServer(ctx context.Context, db *sql.DB) error {
	var version int
	var encoding string
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')").Scan(&version, &encoding)
	if err != nil {
		return err
	}
	return suitable(version, encoding)
}

func suitable(version int, encoding string) error {
	if version < oldestPostgres*10000 {
		return fmt.Errorf("%w: the server is PostgreSQL %d; upgrade it to %d or newer", ErrUnsuitable, version/10000, oldestPostgres)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("%w: its encoding is %s; create it with ENCODING 'UTF8' TEMPLATE template0", ErrUnsuitable, encoding)
	}
	return nil
}

// isolation of a reader is one state of the database; that of a writer each statement's, because its state must be that after
// the lock: whatever the writer before it in the lane committed.
func isolation(options *sql.TxOptions) *sql.TxOptions {
	if options != nil && options.ReadOnly {
		return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

// lock waits until the transaction is the only one of its lane. The server gives the lock back after the commit can be seen,
// so that sequences taken under it are seen in their order.
func lock(ctx context.Context, tx *Tx, lane Lane) error {
	first, last := lane, lane
	if lane == allLanes {
		first, last = 0, lanes-1
		_, err := tx.ExecContext(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
		if err != nil {
			return err
		}
	}
	for lane := first; lane <= last; lane++ {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?, ?)", lockClass, int(lane)); err != nil {
			return err
		}
	}
	return nil
}

// code is the SQLSTATE of an error of the server (PostgreSQL manual, appendix A); empty: it is not one.
func code(err error) string {
	var failure *pgconn.PgError
	if errors.As(err, &failure) {
		return failure.Code
	}
	return ""
}

// givenUp says whether a transaction that had not come to its commit can be run again with another outcome.
func givenUp(err error) bool {
	switch code(err) {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	case "57P01", "57P02": // admin_shutdown, crash_shutdown: the connection is lost
		return true
	}
	var connecting *pgconn.ConnectError
	return lost(err) && !errors.As(err, &connecting)
}

// lost says whether the connection broke, or could not be made.
func lost(err error) bool {
	var network net.Error
	var connecting *pgconn.ConnectError
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &connecting) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) ||
		strings.HasSuffix(err.Error(), "conn closed") // of pgx, which does not export it
}

// unavailable says whether the server is away, as opposed to refusing something.
func unavailable(err error) bool {
	switch c := code(err); {
	case c == "57P01" || c == "57P02" || c == "57P03" || c == "53300" || strings.HasPrefix(c, "08"):
		return true // shutdown, crash, starting up, too many connections, connection exceptions
	case c != "":
		return false
	}
	return lost(err)
}

// commitUnknown says whether the error of a commit leaves open what became of it.
func commitUnknown(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return false // a statement before it had failed
	}
	return code(err) == "" || unavailable(err)
}

func explainPostgres(err error) error {
	switch c := code(err); c {
	case "53100": // disk_full
		return fmt.Errorf("%w (%w)", ErrFull, err)
	case "28P01", "28000": // invalid_password, invalid_authorization_specification
		return fmt.Errorf("%w (%w)", ErrDenied, err)
	case "3D000": // invalid_catalog_name
		return fmt.Errorf("%w: there is none of this name; create it: createdb --encoding UTF8 --template template0 NAME (%w)", ErrUnsuitable, err)
	case "42501": // insufficient_privilege
		return fmt.Errorf("%w: the user lacks a right, such as to create tables: make it the owner of the database (%w)", ErrUnsuitable, err)
	case "25006": // read_only_sql_transaction
		return fmt.Errorf("%w: it is read only, or a standby; name the primary (%w)", ErrUnsuitable, err)
	case "55P03": // lock_not_available
		return fmt.Errorf("%w (%w)", ErrBusy, err)
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return fmt.Errorf("%w (%w)", ErrCorrupt, err)
	}
	return err
}
