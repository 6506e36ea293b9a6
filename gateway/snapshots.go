package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/pipeline"
)

const (
	pollInterval  = 2 * time.Second // in case that a nudge was lost
	fetchTimeout  = 10 * time.Second
	storeInterval = time.Second // between two disk copies
)

// snapshots keeps the pipeline at the control plane's newest Snapshot, and the disk copy that a restart begins with.
type snapshots struct {
	file     string
	bus      *bus.Bus
	pipeline *pipeline.Pipeline
	logger   *slog.Logger
	report   func() // after something changed

	current fieldgate.Snapshot
	order   []string // keys of the contracts in current
	keys    map[string]*fieldgate.Contract
	program *pipeline.Program
	failed  uint64                 // version that could not be linked; not tried again
	problem atomic.Pointer[string] // why
	known   atomic.Bool            // there is a disk copy, or the control plane has answered

	unstored    atomic.Pointer[fieldgate.Snapshot] // the newest one that is in force, until it is on disk
	changed     chan struct{}                      // there is one
	storeFailed bool                               // and it was said
}

// load puts the disk copy into force. A damaged copy is set aside: the gateway then waits for the control plane.
func (s *snapshots) load() error {
	encoded, err := os.ReadFile(s.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	snapshot, err := fieldgate.DecodeSnapshot(encoded)
	var program *pipeline.Program
	if err == nil {
		program, err = pipeline.Link(snapshot, nil)
	}
	if err != nil {
		aside := s.file + time.Now().UTC().Format(".corrupt-20060102T150405.000000000")
		s.logger.Error("the snapshot on disk is of no use; it is set aside, and nothing is served until the control plane sends a new one", "file", s.file, "aside", aside, "error", err)
		return os.Rename(s.file, aside)
	}
	var order []string
	keys := make(map[string]*fieldgate.Contract, len(snapshot.Contracts))
	for _, contract := range snapshot.Contracts {
		key, _, err := fieldgate.EncodeContract(contract)
		if err != nil {
			return err
		}
		keys[key] = contract
		order = append(order, key)
	}
	s.current, s.order, s.keys, s.program = *snapshot, order, keys, program
	s.pipeline.Install(program)
	s.known.Store(true)
	return nil
}

// run pulls whenever the control plane nudges, and keeps the disk copy, until the context ends.
func (s *snapshots) run(ctx context.Context) error {
	nudge := make(chan struct{}, 1)
	stop, err := s.bus.Subscribe(fieldgate.SubjectSnapshotChanged, func(string, []byte) { wake(nudge) })
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer stop()
	var keeping sync.WaitGroup
	keeping.Go(func() { s.keep(ctx) })
	follow(ctx, nudge, pollInterval, s.logger, "contracts", s.pull)
	keeping.Wait()
	s.store() // what was pulled last
	return nil
}

// pull fetches the newest Snapshot if it is newer than the one in force.
func (s *snapshots) pull(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var manifest fieldgate.SnapshotManifest
	if err := request(ctx, s.bus, fieldgate.SubjectSnapshotManifest, nil, &manifest); err != nil {
		return err
	}
	// The version alone may be that of another database.
	if manifest.Version == s.current.Version && slices.Equal(manifest.Contracts, s.order) {
		s.known.Store(true)
		return nil
	}
	if manifest.Version == s.failed {
		return nil
	}
	next := fieldgate.Snapshot{Version: manifest.Version, Contracts: make([]*fieldgate.Contract, 0, len(manifest.Contracts))}
	keys := make(map[string]*fieldgate.Contract, len(manifest.Contracts))
	fetched, err := s.fetch(ctx, slices.DeleteFunc(slices.Clone(manifest.Contracts), func(key string) bool { return s.keys[key] != nil }))
	if err != nil {
		maps.Copy(s.keys, fetched) // the next pull goes on from there
		return err
	}
	for _, key := range manifest.Contracts {
		contract := s.keys[key]
		if contract == nil {
			contract = fetched[key]
		}
		keys[key] = contract
		next.Contracts = append(next.Contracts, contract)
	}
	program, err := pipeline.Link(&next, s.program)
	if err != nil {
		// The contracts in force stay in force: better the old rules than none.
		why := err.Error()
		s.failed = manifest.Version
		s.problem.Store(&why)
		s.logger.Error("a snapshot cannot be linked; the one before it stays in force", "version", manifest.Version, "error", err)
		s.report()
		return nil
	}
	s.pipeline.Install(program)
	s.current, s.order, s.keys, s.program = next, manifest.Contracts, keys, program
	s.problem.Store(nil)
	s.known.Store(true)
	s.unstored.Store(&next)
	wake(s.changed)
	s.report()
	return nil
}

// why says why the newest Snapshot is not in force; empty when it is.
func (s *snapshots) why() string {
	if problem := s.problem.Load(); problem != nil {
		return *problem
	}
	return ""
}

// fetch gets contracts by their keys, many with one request where they are small and in parts where they are large. With an error
// it gives those that it got before.
func (s *snapshots) fetch(ctx context.Context, keys []string) (map[string]*fieldgate.Contract, error) {
	fetched := make(map[string]*fieldgate.Contract, len(keys))
	for len(keys) > 0 {
		encoded, err := s.request(ctx, keys[0], keys[1:min(len(keys), 1+fieldgate.MaxMoreContracts)])
		if err != nil {
			return fetched, err
		}
		for i, one := range encoded {
			contract, err := fieldgate.DecodeContract(keys[i], one)
			if err != nil {
				return fetched, err
			}
			fetched[keys[i]] = contract
		}
		keys = keys[len(encoded):]
	}
	return fetched, nil
}

// request gets a contract and as many of those after it as came with its last part.
func (s *snapshots) request(ctx context.Context, key string, more []string) (encoded [][]byte, err error) {
	var first []byte
	for {
		question, err := json.Marshal(fieldgate.ContractRequest{Key: key, Offset: len(first), More: more})
		if err != nil {
			return nil, err
		}
		answer, err := s.bus.Request(ctx, fieldgate.SubjectSnapshotContract, question)
		if err != nil {
			return nil, err
		}
		senseless := fmt.Errorf("contract %.12s: the control plane's answer makes no sense", key)
		total, err := strconv.Atoi(answer.Header[fieldgate.HeaderTotal])
		if err != nil || total > fieldgate.MaxEncodedContract || len(first) >= total || len(answer.Data) == 0 {
			return nil, senseless
		}
		part := answer.Data[:min(len(answer.Data), total-len(first))]
		first = append(first, part...)
		rest := answer.Data[len(part):]
		if len(first) < total {
			continue
		}
		encoded = [][]byte{first}
		for _, size := range strings.Fields(answer.Header[fieldgate.HeaderMore]) {
			n, err := strconv.Atoi(size)
			if err != nil || n < 1 || n > len(rest) || len(encoded) > len(more) {
				return nil, senseless
			}
			encoded, rest = append(encoded, rest[:n]), rest[n:]
		}
		if len(rest) > 0 {
			return nil, senseless
		}
		return encoded, nil
	}
}

// keep writes the disk copy when something changed, and not for each of many changes: what a crash leaves out the control plane
// says at the next start.
func (s *snapshots) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		}
		s.store()
		select {
		case <-ctx.Done():
			return
		case <-time.After(storeInterval):
		}
	}
}

// store replaces the disk copy in one step, unless it is that of the newest Snapshot.
func (s *snapshots) store() {
	snapshot := s.unstored.Swap(nil)
	if snapshot == nil {
		return
	}
	encoded, err := fieldgate.EncodeSnapshot(snapshot)
	if err == nil {
		err = replaceFile(s.file, encoded)
	}
	if err != nil {
		s.unstored.CompareAndSwap(nil, snapshot)
		wake(s.changed) // tried again
	}
	switch {
	case err != nil && !s.storeFailed:
		s.logger.Error("the contracts are in force, but not on disk for a restart; it is tried again", "version", snapshot.Version, "error", err)
	case err == nil && s.storeFailed:
		s.logger.Info("the contracts are on disk again", "version", snapshot.Version)
	}
	s.storeFailed = err != nil
}

// replaceFile writes a file so that a crash leaves either the old content or the new.
func replaceFile(path string, content []byte) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
