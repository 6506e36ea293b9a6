package directory

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fieldgate"
)

// The log is a file of frames: length and CRC-32C of the body, four bytes each, little endian; the body is one change in
// the form of appendChange. The first frame holds logMagic and the installation that the changes are of.
const (
	logName   = "directory.log"
	logMagic  = "fieldgate-directory-1 "
	maxChange = 16 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type changeLog struct {
	folder  string
	file    *os.File
	pending []byte // frames not yet on disk
	size    int64  // bytes on disk that are whole frames
	frames  uint32

	installation uint64
}

// magic is the first frame's body.
func magic(installation uint64) []byte { return strconv.AppendUint([]byte(logMagic), installation, 10) }

func openLog(folder string, logger *slog.Logger, apply func(*fieldgate.DirectoryChange)) (*changeLog, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	path := filepath.Join(folder, logName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	l := &changeLog{folder: folder, file: file}
	err = l.read(apply)
	if errors.Is(err, errTorn) {
		logger.Warn("the directory's log ends in the middle of a change, as a crash leaves it; the tail is cut off", "file", path, "kept", l.size)
		err = file.Truncate(l.size)
	}
	if err == nil && l.size == 0 {
		l.pending = appendFrame(nil, magic(0))
		err = l.flush()
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("directory: %s: %w", path, err)
	}
	return l, nil
}

// setAside renames a damaged log, so that a new one can take its place and the old one can be looked at.
func setAside(folder string, logger *slog.Logger) error {
	path := filepath.Join(folder, logName)
	aside := path + time.Now().UTC().Format(".corrupt-20060102T150405.000000000")
	logger.Error("the directory's log is corrupt; it is set aside and will be fetched again from the control plane", "file", path, "aside", aside)
	return os.Rename(path, aside)
}

var errTorn = errors.New("the log ends within a frame")

// read applies each change of the file. A last frame that is not whole is errTorn, anything else that is not as it was
// written is fieldgate.ErrCorrupt.
func (l *changeLog) read(apply func(*fieldgate.DirectoryChange)) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	reader := bufio.NewReaderSize(l.file, 1<<20)
	body := make([]byte, maxChange)
	for l.size < info.Size() {
		frame, err := readFrame(reader, body, info.Size()-l.size)
		if err != nil {
			return err
		}
		if l.size == 0 {
			number, ok := strings.CutPrefix(string(frame), logMagic)
			if l.installation, err = strconv.ParseUint(number, 10, 64); !ok || err != nil {
				return fieldgate.ErrCorrupt
			}
		} else {
			change, err := readChange(frame)
			if err != nil {
				return fmt.Errorf("%w: %v", fieldgate.ErrCorrupt, err)
			}
			apply(change)
			l.frames++
		}
		l.size += int64(8 + len(frame))
	}
	return nil
}

// readFrame reads the next frame into body; left is how many bytes of the file are left.
func readFrame(reader io.Reader, body []byte, left int64) ([]byte, error) {
	var header [8]byte
	if left < int64(len(header)) {
		return nil, errTorn
	}
	if _, err := io.ReadFull(reader, header[:]); err != nil {
		return nil, err
	}
	length, sum := int64(binary.LittleEndian.Uint32(header[:])), binary.LittleEndian.Uint32(header[4:])
	switch end := 8 + length; {
	case length == 0 || length <= maxChange && end > left: // a file that was extended but not written is zeros
		return nil, errTorn
	case length > maxChange:
		return nil, fieldgate.ErrCorrupt
	default:
		if _, err := io.ReadFull(reader, body[:length]); err != nil {
			return nil, err
		}
		if crc32.Checksum(body[:length], castagnoli) == sum {
			return body[:length], nil
		}
		if end == left {
			return nil, errTorn
		}
		return nil, fieldgate.ErrCorrupt
	}
}

func appendFrame(dst, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...)
}

func (l *changeLog) append(change *fieldgate.DirectoryChange) {
	l.pending = appendFrame(l.pending, appendChange(nil, change))
	l.frames++
}

// flush writes what is pending at the end of the last whole frame, so that a write that failed half-way is written over.
func (l *changeLog) flush() error {
	if len(l.pending) == 0 {
		return nil
	}
	if _, err := l.file.WriteAt(l.pending, l.size); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	l.size += int64(len(l.pending))
	l.pending = nil
	return nil
}

// wasteful says whether most of the log has been overtaken by later changes.
func (l *changeLog) wasteful(principals uint32) bool { return l.frames > 2*principals+10_000 }

// rewrite puts a log with only the present values in the place of this one.
func (l *changeLog) rewrite(installation uint64, values func(write func(*fieldgate.DirectoryChange))) error {
	path := filepath.Join(l.folder, logName)
	file, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	writer := bufio.NewWriterSize(file, 1<<20)
	next := &changeLog{folder: l.folder, file: file, installation: installation}
	write := func(frame []byte) {
		n, _ := writer.Write(frame) // bufio keeps the first error for Flush
		next.size += int64(n)
	}
	write(appendFrame(nil, magic(installation)))
	values(func(change *fieldgate.DirectoryChange) {
		write(appendFrame(nil, appendChange(nil, change)))
		next.frames++
	})
	err = writer.Flush()
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		file.Close()
		return fmt.Errorf("directory: rewrite the log: %w", err)
	}
	l.file.Close()
	*l = *next
	return nil
}

func (l *changeLog) close() error {
	err := l.flush()
	return errors.Join(err, l.file.Close())
}

// forHandshakes is set in the number of tokens of a change that has a pre-shared key or certificates, too: how many certificates
// there are, their hashes, identity and sealed key then stand before the verifiers.
const forHandshakes = 1 << 7

// forObjects is set there of one that has an OSCORE context: its identifiers and sealed secrets then stand before the verifiers.
const forObjects = 1 << 6

func appendChange(dst []byte, c *fieldgate.DirectoryChange) []byte {
	more := c.PSK != nil || len(c.Certificates) > 0
	tokens := byte(len(c.Credentials))
	if more {
		tokens |= forHandshakes
	}
	if c.OSCORE != nil {
		tokens |= forObjects
	}
	dst = binary.AppendUvarint(dst, c.Sequence)
	dst = append(dst, byte(c.State), tokens)
	dst = appendHashes(dst, c.Credentials)
	for _, text := range [...]string{string(c.Kind), c.ID, c.Model, c.Firmware, strings.Join(c.Scopes, " ")} {
		dst = appendText(dst, text)
	}
	if more {
		dst = appendHashes(append(dst, byte(len(c.Certificates))), c.Certificates)
		psk := c.PSK
		if psk == nil {
			psk = &fieldgate.SealedPSK{}
		}
		dst = appendText(appendText(dst, psk.Identity), string(psk.Sealed))
	}
	if o := c.OSCORE; o != nil {
		for _, part := range [...][]byte{o.SenderID, o.RecipientID, o.IDContext, o.Sealed} {
			dst = appendText(dst, string(part))
		}
	}
	for i := range c.Verifiers {
		dst = append(dst, c.Verifiers[i][:]...)
	}
	return dst
}

func appendHashes(dst []byte, hashes []fieldgate.CredentialHash) []byte {
	for i := range hashes {
		dst = append(dst, hashes[i][:16]...)
	}
	return dst
}

func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

var errChange = errors.New("malformed change")

func readChange(body []byte) (*fieldgate.DirectoryChange, error) {
	sequence, n := binary.Uvarint(body)
	if n <= 0 || len(body) < n+2 {
		return nil, errChange
	}
	c := &fieldgate.DirectoryChange{Sequence: sequence, State: fieldgate.PrincipalState(body[n])}
	tokens := body[n+1]
	if c.State >= fieldgate.PrincipalStates {
		return nil, errChange
	}
	var err error
	if c.Credentials, body, err = readHashes(body[n+2:], int(tokens&^(forHandshakes|forObjects)), fieldgate.MaxCredentials); err != nil {
		return nil, err
	}
	var texts [5]string
	for i := range texts {
		if texts[i], body, err = readText(body); err != nil {
			return nil, err
		}
	}
	if tokens&forHandshakes != 0 {
		if body, err = readForHandshakes(c, body); err != nil {
			return nil, err
		}
	}
	if tokens&forObjects != 0 {
		var parts [4]string
		for i := range parts {
			if parts[i], body, err = readText(body); err != nil {
				return nil, err
			}
		}
		c.OSCORE = &fieldgate.SealedOSCORE{SenderID: []byte(parts[0]), RecipientID: []byte(parts[1]), IDContext: []byte(parts[2]), Sealed: []byte(parts[3])}
	}
	if len(body) != 0 {
		c.Verifiers = make([]fieldgate.ScramVerifier, len(c.Credentials))
		if len(body) != len(c.Verifiers)*len(fieldgate.ScramVerifier{}) {
			return nil, errChange
		}
		for i := range c.Verifiers {
			body = body[copy(c.Verifiers[i][:], body):]
		}
	}
	c.Kind, c.ID, c.Model, c.Firmware = fieldgate.PrincipalKind(texts[0]), texts[1], texts[2], texts[3]
	if texts[4] != "" {
		c.Scopes = strings.Fields(texts[4])
	}
	return c, nil
}

func readForHandshakes(c *fieldgate.DirectoryChange, body []byte) (rest []byte, err error) {
	if len(body) == 0 {
		return nil, errChange
	}
	if c.Certificates, body, err = readHashes(body[1:], int(body[0]), fieldgate.MaxCertificates); err != nil {
		return nil, err
	}
	identity, body, err := readText(body)
	if err != nil {
		return nil, err
	}
	sealed, body, err := readText(body)
	if err != nil || (identity == "") != (sealed == "") {
		return nil, errChange
	}
	if identity != "" {
		c.PSK = &fieldgate.SealedPSK{Identity: identity, Sealed: []byte(sealed)}
	}
	return body, nil
}

func readHashes(body []byte, count, most int) (hashes []fieldgate.CredentialHash, rest []byte, err error) {
	if count > most || len(body) < 16*count {
		return nil, nil, errChange
	}
	for ; count > 0; count-- {
		var hash fieldgate.CredentialHash
		copy(hash[:], body[:16])
		hashes = append(hashes, hash)
		body = body[16:]
	}
	return hashes, body, nil
}

func readText(body []byte) (text string, rest []byte, err error) {
	length, n := binary.Uvarint(body)
	if n <= 0 || length > uint64(len(body)-n) {
		return "", nil, errChange
	}
	end := n + int(length)
	return string(body[n:end]), body[end:], nil
}
