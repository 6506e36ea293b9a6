// Package access decides who may use an installation besides its devices: apps with their scopes and keys; and operators,
// how they sign in, what they may do, their sessions and API tokens.
package access

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"fieldgate"
)

// OperatorTokenFile is the file in the data directory that holds the operator's token; whoever can read it is the operator.
const OperatorTokenFile = "operator.token"

// Operator verifies operator tokens.
type Operator struct {
	hash      fieldgate.CredentialHash
	directory string
}

// Name is the operator in audit rows.
const Name = "operator"

// LoadOperator reads the operator's token from the data directory, and makes one where there is none.
func LoadOperator(directory string) (operator *Operator, token string, err error) {
	path := filepath.Join(directory, OperatorTokenFile)
	token, err = readToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		token, err = createToken(path)
	}
	if err != nil {
		return nil, "", err
	}
	return &Operator{fieldgate.HashToken([]byte(token)), directory}, token, nil
}

func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by other users: run chmod 600 on it, or delete it to get a new token", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := bytes.TrimSpace(content)
	if !fieldgate.WellFormedToken(token) || !bytes.HasPrefix(token, []byte(fieldgate.PrefixOperator)) {
		return "", fmt.Errorf("%s does not hold an operator token: delete it to get a new one", path)
	}
	return string(token), nil
}

// createToken makes a token. A crash leaves no half of it, and two processes do not make two.
func createToken(path string) (string, error) {
	token, err := fieldgate.NewToken(fieldgate.PrefixOperator)
	if err != nil {
		return "", err
	}
	err = writeBeside(path, token+"\n", func(written string) error { return os.Link(written, path) })
	if errors.Is(err, fs.ErrExist) {
		return readToken(path)
	}
	return token, err
}

// replaceFile puts a file that only its owner can read in the place of another.
func replaceFile(path, content string) error {
	return writeBeside(path, content, func(written string) error { return os.Rename(written, path) })
}

// writeBeside writes a whole file beside the path, for its owner only, and has it put there.
func writeBeside(path, content string, put func(written string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return put(file.Name())
}

// removeFile removes a file if it is there.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Verify says whether a token is the operator's. Hashes are compared in constant time.
func (o *Operator) Verify(token []byte) bool {
	hash := fieldgate.HashToken(token)
	return subtle.ConstantTimeCompare(hash[:], o.hash[:]) == 1
}
