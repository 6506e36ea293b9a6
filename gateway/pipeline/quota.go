package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/directory"
)

// Quotas count what callers have used of their quotas in the day or month under way: in memory, and in a file from which a restart goes
// on. A kill forgets what came after the file was last written. Callers are those of the directory, which bounds the counts.
type Quotas struct {
	file      string // empty: in memory only
	directory *directory.Directory
	logger    *slog.Logger

	mu      sync.RWMutex
	used    map[quotaKey]*usage
	changed atomic.Bool // since the file was written
}

type quotaKey struct {
	quota  string        // linkedQuota.name
	caller directory.Ref // 0: all callers together
}

// usage is one count. It lives as long as the process, so that grants may hold it.
type usage struct {
	mu     sync.Mutex
	window int64 // number of the day since 1970, or of the month since the year 0
	used   int64
}

// linkedQuota is a quota with what it needs.
type linkedQuota struct {
	fieldgate.Quota
	name    string // of its counts: a quota that is raised goes on counting
	refusal string // sentence for the caller
	rule    string // in the contract's words, for Records
}

func linkQuota(quota fieldgate.Quota, contract *fieldgate.Contract, operation string) linkedQuota {
	unit := "exchanges"
	if quota.Bytes {
		unit = "bytes"
	}
	return linkedQuota{Quota: quota, name: fmt.Sprint(contract.API, " ", operation, " ", unit, "/", quota.Period, " ", quota.Key),
		refusal: fmt.Sprintf("The quota of %s for each %s is used up.", quota, quota.Key), rule: ruleText(fmt.Sprintf("quota %s per %s", quota, quota.Key))}
}

// window numbers the day or month of a time, in UTC.
func (q *linkedQuota) window(now time.Time) int64 {
	if q.Period == fieldgate.QuotaDay {
		return now.Unix() / 86400
	}
	year, month, _ := now.UTC().Date()
	return int64(year)*12 + int64(month) - 1
}

// left is how long the window of a time still lasts.
func (q *linkedQuota) left(now time.Time) time.Duration {
	year, month, day := now.UTC().Date()
	if q.Period == fieldgate.QuotaDay {
		return time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC).Sub(now)
	}
	return time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC).Sub(now)
}

// take uses up some of a quota, unless there is less left.
func (u *usage) take(q *linkedQuota, amount int64, now time.Time) bool {
	window := q.window(now)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.window < window {
		u.window, u.used = window, 0
	}
	if amount > q.Count-u.used {
		return false
	}
	u.used += amount
	return true
}

// of is the count of a quota and caller.
func (s *Quotas) of(q *linkedQuota, caller directory.Ref) *usage {
	key := quotaKey{q.name, caller}
	if q.Key == fieldgate.LimitOperation {
		key.caller = 0
	}
	s.mu.RLock()
	u := s.used[key]
	s.mu.RUnlock()
	if u != nil {
		return u
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u = s.used[key]; u == nil {
		u = &usage{}
		s.used[key] = u
	}
	return u
}

// useQuotas takes what an exchange uses of the operation's quotas, of bytes or of exchanges.
func (p *Pipeline) useQuotas(x *Exchange, inBytes bool, amount int64) *fieldgate.Problem {
	for i := range x.Operation.quotas {
		q := &x.Operation.quotas[i]
		if q.Bytes != inBytes {
			continue
		}
		p.quotas.changed.Store(true)
		if !p.quotas.of(q, x.caller.Ref).take(q, amount, x.Started) {
			return x.by(q.rule, &fieldgate.Problem{Code: fieldgate.ProblemRateLimited, Detail: q.refusal, RetryAfter: q.left(x.Started)})
		}
	}
	return nil
}

// keptUsage is a line of the file. Callers have names there: a Ref is good for one process.
type keptUsage struct {
	Quota  string                  `json:"quota"`
	Kind   fieldgate.PrincipalKind `json:"kind,omitempty"` // empty: all callers together
	ID     string                  `json:"id,omitempty"`
	Window int64                   `json:"window"`
	Used   int64                   `json:"used"`
}

// OpenQuotas reads the counts of the last run. Those of callers that are gone are left out. A file that is not what was written is set
// aside, and counts begin at nothing. Without a file they live in memory.
func OpenQuotas(file string, directory *directory.Directory, logger *slog.Logger) (*Quotas, error) {
	s := &Quotas{file: file, directory: directory, logger: logger, used: make(map[quotaKey]*usage)}
	if file == "" {
		return s, nil
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("quotas: %w", err)
	}
	for line := range bytes.Lines(content) {
		var kept keptUsage
		if err := json.Unmarshal(line, &kept); err != nil {
			aside := file + ".corrupt"
			logger.Error("what was used of quotas cannot be read; it counts from nothing", "file", aside, "error", err)
			clear(s.used)
			return s, os.Rename(file, aside)
		}
		key := quotaKey{quota: kept.Quota}
		if kept.Kind != "" {
			if key.caller = directory.Find(kept.Kind, kept.ID); key.caller == 0 {
				continue
			}
		}
		s.used[key] = &usage{window: kept.Window, used: kept.Used}
	}
	return s, nil
}

// save writes the file so that a crash leaves the old one or the new one.
func (s *Quotas) save() error {
	if s.file == "" || !s.changed.Swap(false) {
		return nil
	}
	err := s.write(s.file + ".new")
	if err == nil {
		err = os.Rename(s.file+".new", s.file)
	}
	if err != nil {
		s.changed.Store(true)
		return fmt.Errorf("quotas: %w", err)
	}
	folder, err := os.Open(filepath.Dir(s.file))
	if err != nil {
		return fmt.Errorf("quotas: %w", err)
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func (s *Quotas) write(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	lines := bufio.NewWriter(file)
	encoder := json.NewEncoder(lines)
	for _, kept := range s.all() {
		if err = encoder.Encode(kept); err != nil {
			break
		}
	}
	if err == nil {
		err = lines.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (s *Quotas) all() []keptUsage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]keptUsage, 0, len(s.used))
	for key, u := range s.used {
		kept := keptUsage{Quota: key.quota}
		if key.caller != 0 {
			principal := s.directory.Principal(key.caller)
			kept.Kind, kept.ID = principal.Kind, principal.ID
		}
		u.mu.Lock()
		kept.Window, kept.Used = u.window, u.used
		u.mu.Unlock()
		all = append(all, kept)
	}
	return all
}

// quotaInterval is the time between two writes of the file, which take a twentieth of it at the most.
const quotaInterval = 10 * time.Second

// Run writes what was used to disk, now and then and when the context ends.
func (s *Quotas) Run(ctx context.Context) error {
	for wait, failed := quotaInterval, false; ; {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		began := time.Now()
		err := s.save()
		if err != nil && !failed {
			s.logger.Error("what was used of quotas is not on disk for a restart; it is tried again", "error", err)
		}
		if failed = err != nil; ctx.Err() != nil {
			return nil
		}
		wait = max(quotaInterval, 20*time.Since(began))
	}
}
