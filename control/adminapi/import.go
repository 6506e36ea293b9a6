package adminapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"fieldgate/api"
	"fieldgate/control/fleet"
	"fieldgate/control/refusal"
)

const (
	importBatch   = 500
	maxImportLine = 4 << 10
	progressEvery = 10_000 // lines
)

func (o *operations) ImportDevices(ctx context.Context, request ImportDevicesRequestObject) (ImportDevicesResponseObject, error) {
	mode := request.Params.Mode
	if mode != "" && !mode.Valid() {
		return nil, refusal.Invalid("%.60q is no mode: it is good or all.", string(mode))
	}
	if err := o.monitor.storeAway(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(request.Body)
	lines.Buffer(make([]byte, 0, maxImportLine), maxImportLine)
	i := &importer{ctx: ctx, server: o.Server, lines: lines}
	i.step = i.registerGood
	if mode == api.ImportAll {
		var err error
		if i.bulk, err = o.config.Fleet.BeginBulk(ctx); err != nil {
			return nil, err
		}
		i.step = i.checkAll
	}
	return ImportDevices200ApplicationxNdjsonResponse{Body: i}, nil
}

// importer is the answer to an import: reading it carries the import out, portion by portion.
type importer struct {
	ctx    context.Context
	server *Server
	lines  *bufio.Scanner
	bulk   *fleet.Bulk // of the mode all

	step    func() error // what the next portion needs; nil when the answer is complete
	line    int          // that was read last
	good    int          // lines that were checked and not refused
	added   int
	refused int
	told    int              // lines at the last progress
	decided bool             // what is not registered yet will be
	results []api.ImportLine // of the portion
	answer  bytes.Buffer
}

func (i *importer) Read(p []byte) (int, error) {
	for i.answer.Len() == 0 {
		if i.step == nil {
			return 0, io.EOF
		}
		i.answer.Reset()
		if err := i.step(); err != nil {
			if i.ctx.Err() != nil {
				err = errImportEnded
			}
			// The status is sent already: the last but one line says what happened.
			problem := problemOf(err)
			if problem.Status >= 500 {
				i.server.config.Log.Error("an import failed", "error", err)
			}
			i.tell(api.ImportLine{Line: i.line, Problem: &problem})
			i.finish(i.decided || i.bulk == nil && i.added > 0)
		}
	}
	return i.answer.Read(p)
}

// Close leaves what is not finished to FinishBulks.
func (i *importer) Close() error {
	if i.bulk == nil {
		return nil
	}
	i.bulk.End()
	return nil
}

// finish ends the answer with the summary.
func (i *importer) finish(applied bool) {
	i.step = nil
	i.tell(api.ImportLine{Done: true, Applied: &applied, Lines: i.line, Added: i.added, Refused: i.refused})
}

// next reads a portion of lines. Those that cannot be read are told as refused.
func (i *importer) next() (portion []fleet.Line, more bool, err error) {
	for len(portion) < importBatch {
		if !i.lines.Scan() {
			err := i.lines.Err()
			if errors.Is(err, bufio.ErrTooLong) {
				i.line++
				err = refusal.Invalid("Line %d has more than the %d bytes that a line may have; it and the following were not read.", i.line, maxImportLine)
			}
			return portion, false, err
		}
		i.line++
		text := bytes.TrimSpace(i.lines.Bytes())
		if len(text) == 0 {
			continue
		}
		var device api.NewDevice
		if err := json.Unmarshal(text, &device); err != nil {
			i.refuse(fleet.Registered{Line: i.line, Imported: fleet.Imported{Refused: errNoDevice}})
			continue
		}
		wanted, err := newDevice(&device)
		var refused *refusal.Error
		if errors.As(err, &refused) {
			i.refuse(fleet.Registered{Line: i.line, Imported: fleet.Imported{ID: device.Id, Refused: refused}})
			continue
		}
		portion = append(portion, fleet.Line{Number: i.line, Device: wanted})
	}
	return portion, true, nil
}

var errImportEnded = refusal.Unauthenticated("The import was ended, because whoever sent it no longer may: sign in again. What is registered stays.")

var errNoDevice = &refusal.Error{Code: refusal.CodeInvalid, Detail: "The line is no JSON object of a device."}

func (i *importer) refuse(r fleet.Registered) {
	i.refused++
	problem := problemOf(r.Refused)
	i.results = append(i.results, api.ImportLine{Line: r.Line, Id: r.ID, Problem: &problem})
}

// tellResults tells what became of a portion, in the order of its lines.
func (i *importer) tellResults() {
	slices.SortFunc(i.results, func(a, b api.ImportLine) int { return a.Line - b.Line })
	for _, line := range i.results {
		i.tell(line)
	}
	i.results = i.results[:0]
}

// registerGood registers a portion; a refused line does not hold up the others.
func (i *importer) registerGood() error {
	portion, more, failure := i.next()
	if len(portion) > 0 {
		devices := make([]fleet.NewDevice, len(portion))
		for at := range portion {
			devices[at] = portion[at].Device
		}
		imported, err := i.server.config.Fleet.Import(i.ctx, devices)
		if err != nil {
			return err
		}
		for at, result := range imported {
			if result.Refused != nil {
				i.refuse(fleet.Registered{Line: portion[at].Number, Imported: result})
				continue
			}
			i.added++
			i.results = append(i.results, api.ImportLine{Line: portion[at].Number, Id: result.ID, Token: result.Token})
		}
	}
	i.tellResults()
	i.progress(api.ImportLine{Added: i.added}, i.line)
	if failure == nil && !more {
		i.finish(i.added > 0)
	}
	return failure
}

// checkAll checks a portion; when every line is good, all are registered.
func (i *importer) checkAll() error {
	portion, more, failure := i.next()
	if len(portion) > 0 {
		refused, err := i.bulk.Check(i.ctx, portion)
		if err != nil {
			return err
		}
		i.good += len(portion) - len(refused)
		for _, r := range refused {
			i.refuse(r)
		}
	}
	i.tellResults()
	i.progress(api.ImportLine{Checked: i.line}, i.line)
	switch {
	case failure != nil || more:
		return failure
	case i.refused > 0 || i.good == 0:
		if err := i.bulk.Forget(i.ctx); err != nil {
			return err
		}
		i.finish(false)
		return nil
	}
	if err := i.bulk.Decide(i.ctx); err != nil {
		return err
	}
	i.decided, i.told, i.step = true, 0, i.registerAll
	return nil
}

func (i *importer) registerAll() error {
	registered, err := i.bulk.Register(i.ctx, importBatch)
	if err != nil {
		return err
	}
	for _, r := range registered {
		i.added++
		i.tell(api.ImportLine{Line: r.Line, Id: r.ID, Token: r.Token})
	}
	i.progress(api.ImportLine{Added: i.added}, i.added)
	if len(registered) == 0 {
		i.finish(true)
	}
	return nil
}

// progress tells how far it is, now and then.
func (i *importer) progress(line api.ImportLine, reached int) {
	if reached-i.told >= progressEvery {
		i.told = reached
		i.tell(line)
	}
}

func (i *importer) tell(line api.ImportLine) {
	if err := json.NewEncoder(&i.answer).Encode(line); err != nil {
		panic(err) // plain strings and numbers
	}
}

// finishInterval is how often a node says that it works on its imports, and looks after those of others.
const finishInterval = 2 * time.Second

// finishImports cares for imports on which nobody works any more, until the context ends.
func (s *Server) finishImports(ctx context.Context) {
	ticker := time.NewTicker(finishInterval)
	defer ticker.Stop()
	for {
		if err := s.config.Fleet.FinishBulks(ctx); err != nil && ctx.Err() == nil {
			s.config.Log.Warn("imports that were cut off are not finished; they are tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
