package certificates

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// maxFile bounds a PEM file.
const maxFile = 1 << 20

// fileSource is a certificate in PEM files that somebody else replaces.
type fileSource struct {
	status
	file    File
	logger  *slog.Logger
	seen    stamp  // when the files were read last
	content []byte // of both, as they were read last
}

// stamp changes when a file does, or a link leads to another one.
type stamp struct{ certificate, key fileStamp }

type fileStamp struct {
	modified time.Time
	size     int64
}

func (f File) stamp() stamp {
	of := func(path string) (s fileStamp) {
		if info, err := os.Stat(path); err == nil {
			s = fileStamp{info.ModTime(), info.Size()}
		}
		return s
	}
	return stamp{of(f.Certificate), of(f.Key)}
}

// openFile reads a certificate that has to be there.
func openFile(file File, logger *slog.Logger) (*fileSource, error) {
	s := &fileSource{file: file, logger: logger, seen: file.stamp()}
	content, err := file.read()
	if err != nil {
		return nil, err
	}
	s.content = content
	s.certificate, err = file.parse(content)
	return s, err
}

// look reads files that were changed. One that is broken leaves the certificate as it is.
func (s *fileSource) look(time.Time) bool {
	now := s.file.stamp()
	if now == s.seen {
		return false
	}
	s.seen = now
	content, err := s.file.read()
	if err == nil && bytes.Equal(content, s.content) && s.problem == "" {
		return false
	}
	var certificate *tls.Certificate
	if err == nil {
		s.content = content
		certificate, err = s.file.parse(content)
	}
	if err != nil {
		changed := s.problem != err.Error()
		s.problem = err.Error()
		if changed {
			s.logger.Error("the new certificate is not used, the one before stays in force", "error", err)
		}
		return changed
	}
	s.status = status{certificate: certificate}
	s.logger.Info("the certificate was replaced", "file", s.file.Certificate, "names", names(certificate.Leaf), "until", certificate.Leaf.NotAfter.UTC())
	return true
}

// read gives the certificates, followed by the key.
func (f File) read() ([]byte, error) {
	var content []byte
	for _, path := range []string{f.Certificate, f.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		if info.Size() > maxFile || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("certificate: %s is no PEM file", path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		content = append(append(content, text...), '\n')
	}
	return content, nil
}

func (f File) parse(content []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(content, content) // each takes its own kind of block
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Certificate, f.Key, err)
	}
	return &pair, nil
}

// write puts content in place of a file, in one step.
func write(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // for its owner only
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err = file.Write(content); err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}
