package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog passes the server's log on and remembers its complaints while it starts, because it reports them nowhere else.
type serverLog struct {
	log    *slog.Logger
	broken chan struct{} // has a token when a stream could not be written

	mu         sync.Mutex
	complaints []string
}

const maxComplaints = 16

func (l *serverLog) complain(format string, v []any) string {
	text := strings.TrimSpace(fmt.Sprintf(format, v...))
	l.mu.Lock()
	if len(l.complaints) < maxComplaints {
		l.complaints = append(l.complaints, text)
	}
	l.mu.Unlock()
	return text
}

func (l *serverLog) Warnf(format string, v ...any) { l.log.Warn("bus: " + l.complain(format, v)) }
func (l *serverLog) Errorf(format string, v ...any) {
	text := l.complain(format, v)
	l.log.Error("bus: " + text)
	if strings.Contains(text, "critical write error") { // the server reports it nowhere else
		select {
		case l.broken <- struct{}{}:
		default:
		}
	}
}
func (l *serverLog) Fatalf(format string, v ...any) { l.log.Error("bus: " + l.complain(format, v)) }
func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("bus: " + fmt.Sprintf(format, v...))
}
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}

// failure is the first complaint as an error.
func (l *serverLog) failure(otherwise string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.complaints) > 0 {
		return errors.New(l.complaints[0])
	}
	return errors.New(otherwise)
}

// damage is the first complaint that says that a stream or consumer could not be read back; empty when all were.
func (l *serverLog) damage() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, complaint := range l.complaints {
		for _, sign := range []string{"metafile", "checksum", "Error recreating", "Error adding", "corrupt", "Error recovering"} {
			if strings.Contains(complaint, sign) {
				return complaint
			}
		}
	}
	return ""
}
