package dtls

import (
	"bytes"
	"encoding/gob"
	"errors"
	"reflect"
	"unsafe"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
)

// Here is all that depends on more of pion/dtls than its documented behaviour. selfTest finds out at the start whether it holds.

var errChanged = errors.New("dtls: pion/dtls is not of the version that this was written for")

// setCookie makes pion accept the cookie that we gave out and checked, in place of the random one that it just wrote in its
// HelloVerifyRequest. pion has no option for that: without a HelloVerifyRequest of its own it takes no handshake that begins with
// the second ClientHello, and the hash of the handshake covers cookie and message numbers, so that nothing can be rewritten on the
// way. It is called inside pion's write of the HelloVerifyRequest, on the one goroutine that uses the field.
func setCookie(conn *dtls.Conn, written, cookie []byte) error {
	field := reflect.ValueOf(conn).Elem().FieldByName("state")
	if field.IsValid() && field.Kind() == reflect.Struct {
		field = field.FieldByName("cookie")
	}
	if !field.IsValid() || field.Type() != reflect.TypeFor[[]byte]() {
		return errChanged
	}
	present := (*[]byte)(unsafe.Pointer(field.UnsafeAddr()))
	if !bytes.Equal(*present, written) {
		return errChanged
	}
	*present = bytes.Clone(cookie)
	return nil
}

// exported is what we need of what pion's State.MarshalBinary writes; gob goes by the names.
type exported struct {
	RemoteSequenceNumber uint64
	LocalEpoch           uint16
	LocalRandom          [32]byte
	RemoteRandom         [32]byte
	CipherSuiteID        uint16
	MasterSecret         []byte
	SequenceNumber       uint64
	RemoteConnectionID   []byte
	LocalConnectionID    []byte
}

// unsealed is how many numbers are left out after those that pion has used: it may seal its close_notify, which nobody sees.
const unsealed = 8

// takeOver makes a session of a finished handshake, and notes in origin, unless that is nil, what the session can be resumed from. From here on
// pion must not send a record.
func takeOver(conn *dtls.Conn, origin *resumable) (*session, error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errChanged
	}
	raw, err := state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var e exported
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&e); err != nil {
		return nil, err
	}
	clear(raw)
	if e.LocalEpoch != 1 || len(e.MasterSecret) != masterLength || e.RemoteSequenceNumber == 0 {
		return nil, errChanged
	}
	if origin != nil {
		origin.suite, origin.master = e.CipherSuiteID, [masterLength]byte(e.MasterSecret)
	}
	s, err := newSession(e.CipherSuiteID, e.MasterSecret, e.RemoteRandom[:], e.LocalRandom[:])
	clear(e.MasterSecret)
	if err != nil {
		return nil, err
	}
	s.origin, s.hasCID, s.remoteID = origin, len(e.LocalConnectionID) > 0, e.RemoteConnectionID
	s.sent, s.received = e.SequenceNumber+unsealed, window{next: e.RemoteSequenceNumber, seen: ^uint64(0)}
	return s, nil
}

// silent is a logger for pion: what matters is counted, and told by Config.Refused.
type silent struct{}

func (silent) NewLogger(string) logging.LeveledLogger { return silent{} }
func (silent) Trace(string)                           {}
func (silent) Tracef(string, ...any)                  {}
func (silent) Debug(string)                           {}
func (silent) Debugf(string, ...any)                  {}
func (silent) Info(string)                            {}
func (silent) Infof(string, ...any)                   {}
func (silent) Warn(string)                            {}
func (silent) Warnf(string, ...any)                   {}
func (silent) Error(string)                           {}
func (silent) Errorf(string, ...any)                  {}
