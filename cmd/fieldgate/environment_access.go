package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"fieldgate/gateway"
	"fieldgate/gateway/accesslog"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"
)

// accessLog says where a line for each exchange goes.
type accessLog struct {
	File    string   `yaml:"file"`
	Fields  []string `yaml:"fields"`
	MaxSize fileSize `yaml:"max-size"`
	Keep    int      `yaml:"keep"`
}

// accessLogTemplate is the part of the environment file about the access log.
const accessLogTemplate = `{{define "access-log"}}# A line of JSON for each exchange over every protocol, in a file; "-" is standard output. SIGHUP opens the file anew.
access-log:
  file: {{printf "%q" .AccessLog.File}}
#  fields: [time, source, principal, protocol, method, host, path, status, problem, operation, bytes-in, bytes-out, duration, instance]
#  max-size: 100MiB  # then the next file begins
#  keep: 5           # old files
{{end}}`

const maxAccessFields = 32

func (a *accessLog) check() error {
	switch {
	case a.File == "" && (a.Fields != nil || a.MaxSize != 0 || a.Keep != 0):
		return errors.New("file: it is missing, such as access.log")
	case len(a.Fields) > maxAccessFields:
		return fmt.Errorf("fields: at most %d", maxAccessFields)
	case a.Fields != nil && len(a.Fields) == 0:
		return errors.New("fields: name some, or leave the setting out")
	case a.Keep < 0 || a.Keep > 1000:
		return errors.New("keep: write how many old files to keep, 1 to 1000")
	case a.MaxSize != 0 && a.MaxSize < 1<<20:
		return errors.New("max-size: write 1MiB or more")
	}
	for _, field := range a.Fields {
		if name, header := strings.CutPrefix(field, "header:"); header && !h1.ValidName(name) {
			return fmt.Errorf("fields: %q is no name of a header field: write one such as header:User-Agent", name)
		}
	}
	if err := pipeline.CheckAccessFields(a.Fields); err != nil {
		return fmt.Errorf("fields: %w", err)
	}
	return nil
}

func (a *accessLog) settings() gateway.AccessLog {
	return gateway.AccessLog{Settings: accesslog.Settings{Path: a.File, MaxSize: int64(a.MaxSize), Keep: a.Keep}, Fields: a.Fields}
}

// fileSize is a number of bytes, written like 100MiB.
type fileSize int64

// UnmarshalText reads a number with KiB, MiB or GiB.
func (s *fileSize) UnmarshalText(text []byte) error {
	for suffix, unit := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		digits, found := strings.CutSuffix(string(text), suffix)
		if !found {
			continue
		}
		count, err := strconv.ParseInt(digits, 10, 32)
		if err == nil && count > 0 && count <= 1<<40/unit {
			*s = fileSize(count * unit)
			return nil
		}
	}
	return fmt.Errorf("%q is no size: write it like 100MiB, with KiB, MiB or GiB", text)
}
