package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"fieldgate"
	"fieldgate/gateway/accesslog"
	"fieldgate/gateway/pipeline"
)

// AccessLog says where a line for each exchange goes, and what is in it. The zero value: nowhere.
type AccessLog struct {
	accesslog.Settings
	Fields []string // of pipeline.AccessFields, or header:NAME; nil: pipeline.DefaultAccessFields
}

func (a *AccessLog) equal(b *AccessLog) bool {
	return a.Settings == b.Settings && slices.Equal(a.Fields, b.Fields)
}

// access is the access log in force.
type access struct {
	pipeline *pipeline.Pipeline
	log      *slog.Logger
	running  sync.WaitGroup

	mu       sync.Mutex
	settings AccessLog
	file     *accesslog.File // nil: none
	stop     context.CancelFunc
}

// prepare opens the log of settings, so that what is wrong with it is known; apply puts it into force. The same settings again open
// the file anew, which may have been moved away.
func (a *access) prepare(settings AccessLog) (apply func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	settings.Log = a.log
	if a.file != nil && a.settings.equal(&settings) {
		return a.file.Reopen, nil
	}
	if settings.Path == "" {
		return func() { a.replace(settings, nil) }, nil
	}
	file, err := accesslog.Open(settings.Settings)
	if err != nil {
		return nil, err
	}
	return func() { a.replace(settings, file) }, nil
}

func (a *access) replace(settings AccessLog, file *accesslog.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop != nil {
		defer a.stop() // the old one writes what it has
	}
	a.settings, a.file, a.stop = settings, file, nil
	if file == nil {
		a.pipeline.SetAccessLog(nil)
		return
	}
	fields := settings.Fields
	if fields == nil {
		fields = pipeline.DefaultAccessFields
	}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	a.running.Go(func() { file.Run(ctx) })
	a.pipeline.SetAccessLog(pipeline.NewAccessLog(file, fields))
}

// end writes what is left.
func (a *access) end() {
	a.replace(AccessLog{}, nil)
	a.running.Wait()
}

func (a *access) state() *fieldgate.AccessLogState {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	stats := a.file.Stats()
	return &fieldgate.AccessLogState{Written: stats.Written, Dropped: stats.Dropped, Problem: stats.Problem}
}
