package mqttstore

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
)

// In earlier versions one file held all that this store holds, entry after entry:
//
//	magic, then for each entry: length (4 bytes), CRC-32C of the entry (4 bytes), entry
//
// It is read once and taken over.
const (
	journalName  = "mqtt.journal"
	journalMagic = "fieldgate-mqtt-journal-1\n"
	entryHeader  = 8
	maxEntry     = 64 << 20 // a message with its recipients
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// takeOver makes a store of the journal, which is removed once the store has everything on disk. One that lies beside a store
// was left behind there, by a crash or by an earlier version that ran again: it is kept under another name.
func (s *Store) takeOver() error {
	folder := s.config.Folder
	path := filepath.Join(folder, journalName)
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	aside := func(why string, err error) error {
		kept := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405")
		s.logger.Error(why, "error", err, "kept", kept)
		return os.Rename(path, kept)
	}
	store := filepath.Join(folder, folderName)
	if _, err := os.Stat(store); err == nil {
		return aside("an MQTT journal of an earlier version lies beside the store: it is set aside, sessions and messages in it are not served", nil)
	}
	var j journal
	torn, err := j.replay(file)
	if errors.Is(err, fieldgate.ErrCorrupt) {
		return aside("the MQTT journal is damaged: it is set aside, sessions and retained messages in it are not served", err)
	}
	if err != nil {
		return err
	}
	if torn > 0 {
		s.logger.Warn("the MQTT journal ended inside an entry that was never acknowledged; it is left out", "bytes", torn)
	}
	unfinished := filepath.Join(folder, "unfinished")
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	config := s.config
	config.Folder = unfinished
	if err := j.write(config); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(filepath.Join(unfinished, folderName), store), syncFolder(folder), os.RemoveAll(unfinished)); err != nil {
		return err
	}
	s.logger.Info("the MQTT journal of an earlier version was taken over", "sessions", len(j.sessions), "retained", len(j.retained))
	return errors.Join(os.Remove(path), syncFolder(folder))
}

// syncFolder makes a new or renamed file's name durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// journal is the sum of a journal's entries.
type journal struct {
	sessions map[uint64]*journalSession
	retained map[string]*broker.Message
}

type journalSession struct {
	Session
	subscriptions map[string]Options
	pending       map[uint64]journalDelivery // by message number, which rises in the order of publishing
}

type journalDelivery struct {
	message *broker.Message
	Recipient
}

// write makes a store of it.
func (j *journal) write(config Config) (err error) {
	s, err := Open(config)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, nobody{}) })
	defer func() {
		stop()
		running.Wait()
	}()
	var mu sync.Mutex
	var failed error
	done := func(err error) {
		mu.Lock()
		failed = errors.Join(failed, err)
		mu.Unlock()
	}
	written := 0
	pause := func() error {
		if written++; written%1000 != 0 { // neither memory nor the store is to overflow
			return nil
		}
		return s.Settle(ctx)
	}
	messages := make(map[uint64]*broker.Message)
	recipients := make(map[uint64][]Recipient)
	for _, old := range slices.Sorted(maps.Keys(j.sessions)) {
		session := j.sessions[old]
		number := s.NewNumber()
		var subscriptions []Subscription
		for filter, options := range session.subscriptions {
			subscriptions = append(subscriptions, Subscription{filter, options})
		}
		s.SaveSession(number, &session.Session, subscriptions, done)
		for message, d := range session.pending {
			m := *d.message
			m.Retain = false // its retained copy is written below, if it still is the newest
			messages[message] = &m
			d.Session = number
			recipients[message] = append(recipients[message], d.Recipient)
		}
		if err := pause(); err != nil {
			return err
		}
	}
	for _, m := range j.retained {
		s.Publish(m, nil, Received{}, done)
		if err := pause(); err != nil {
			return err
		}
	}
	for _, number := range slices.Sorted(maps.Keys(messages)) {
		s.Publish(messages[number], recipients[number], Received{}, done)
		if err := pause(); err != nil {
			return err
		}
	}
	if err := s.Settle(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// nobody owns the sessions while they are taken over.
type nobody struct{}

func (nobody) Waiting(uint64, int, int)                     {}
func (nobody) Expired(uint64, uint64, *broker.Message) bool { return true }

// replay sums the file's entries up and says how many bytes behind the last whole one were torn by a crash.
func (j *journal) replay(file *os.File) (torn int64, err error) {
	j.sessions, j.retained = make(map[uint64]*journalSession), make(map[string]*broker.Message)
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	left := info.Size()
	r := bufio.NewReaderSize(file, 1<<20)
	magic := make([]byte, min(left, int64(len(journalMagic))))
	if _, err := io.ReadFull(r, magic); err != nil {
		return 0, err
	}
	if string(magic) != journalMagic[:len(magic)] {
		return 0, fmt.Errorf("%w: it does not begin as a journal", fieldgate.ErrCorrupt)
	}
	if len(magic) < len(journalMagic) {
		return left, nil // torn at its very beginning
	}
	left -= int64(len(magic))
	for left > 0 {
		at := info.Size() - left
		var header [entryHeader]byte
		if left < entryHeader {
			return left, nil
		}
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return 0, err
		}
		length := int64(binary.LittleEndian.Uint32(header[:]))
		if length == 0 || length > maxEntry {
			return left, damaged(file, at, "an entry's length is impossible")
		}
		if length > left-entryHeader {
			return left, damaged(file, at, "an entry's length is wrong")
		}
		b := make([]byte, length)
		if _, err := io.ReadFull(r, b); err != nil {
			return 0, err
		}
		if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
			if left == entryHeader+length {
				return left, nil // the last entry: written in part
			}
			return left, damaged(file, at, "an entry's checksum is wrong")
		}
		if err := j.apply(b); err != nil {
			return 0, fmt.Errorf("%w: at byte %d: %v", fieldgate.ErrCorrupt, at, err)
		}
		left -= entryHeader + length
	}
	return 0, nil
}

// damaged decides whether what lies behind good was torn by a crash, or damaged later: then it says so. A crash during a commit
// leaves a part of that commit, or zeros where blocks were not written; behind damage, valid entries follow.
func damaged(file *os.File, good int64, what string) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, min(info.Size()-good, maxEntry))
	if _, err := file.ReadAt(tail, good); err != nil {
		return err
	}
	work := 4 << 30 // bytes to sum at the most, less than a second or two; what is still unclear then is not cut off
	for at := 1; at+entryHeader < len(tail); at++ {
		length := int(binary.LittleEndian.Uint32(tail[at:]))
		if length < 2 || length > len(tail)-at-entryHeader || tail[at+entryHeader] > entryDone {
			continue
		}
		b := tail[at+entryHeader:][:length]
		if work -= length; work < 0 {
			return fmt.Errorf("%w: at byte %d: it is unclear what follows", fieldgate.ErrCorrupt, good)
		}
		if crc32.Checksum(b, castagnoli) == binary.LittleEndian.Uint32(tail[at+4:]) {
			return fmt.Errorf("%w: at byte %d: %s", fieldgate.ErrCorrupt, good, what)
		}
	}
	return nil
}

// The kinds of entries.
const (
	entrySession     = iota + 1 // a session exists, with this expiry, its client away since then
	entryEnd                    // it is gone, with all that it had
	entrySubscribe              //
	entryUnsubscribe            //
	entryMessage                // a message waits for its recipients; with Retain it is also the topic's retained one
	entryDone                   // one recipient needs it no more
)

// apply adds one entry. Entries about a session that is gone are late ones and change nothing.
func (j *journal) apply(b []byte) error {
	r := reader{rest: b}
	kind, number := r.byte(), r.uint(math.MaxUint64)
	session := j.sessions[number]
	switch kind {
	case entrySession:
		s := Session{Kind: r.text(), Principal: r.text(), Client: r.text(), Expiry: uint32(r.uint(math.MaxUint32)), Away: r.time()}
		if session == nil {
			session = &journalSession{subscriptions: make(map[string]Options), pending: make(map[uint64]journalDelivery)}
			j.sessions[number] = session
		}
		session.Session = s
	case entryEnd:
		delete(j.sessions, number)
	case entrySubscribe:
		filter, options := r.text(), r.options()
		if session != nil {
			session.subscriptions[filter] = options
		}
	case entryUnsubscribe:
		filter := r.text()
		if session != nil {
			delete(session.subscriptions, filter)
		}
	case entryDone:
		message := r.uint(math.MaxUint64)
		if session != nil {
			delete(session.pending, message)
		}
	case entryMessage:
		number := r.uint(math.MaxUint64)
		m := r.journalMessage()
		if m.Retain && len(m.Payload) > 0 {
			j.retained[m.Topic] = m
		} else if m.Retain {
			delete(j.retained, m.Topic)
		}
		for range r.uint(uint64(len(r.rest))) {
			to := Recipient{Session: r.uint(math.MaxUint64), QoS: r.byte(), Retain: r.byte()&1 != 0, SubscriptionIDs: r.ids()}
			if session := j.sessions[to.Session]; session != nil {
				session.pending[number] = journalDelivery{m, to}
			}
		}
	default:
		return errValue
	}
	return r.end()
}

// formerClient stands for the publisher of a message from a journal: it was an MQTT client, no matter which.
const formerClient = "\x00"

func (r *reader) journalMessage() *broker.Message {
	m := &broker.Message{Topic: r.text(), Payload: []byte(r.text()), ContentType: r.text(), Properties: []byte(r.text())}
	m.QoS = r.byte()
	flags := r.byte()
	m.Retain = flags&1 != 0
	if flags&2 != 0 {
		m.Client = formerClient
	}
	m.Expires, m.Time = r.time(), r.time()
	return m
}
