// Package access decides who may use an installation besides its devices: apps with their scopes and keys, and the operator.
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
type Operator struct{ hash fieldgate.CredentialHash }

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
	return &Operator{hash: fieldgate.HashToken([]byte(token))}, token, nil
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

// createToken writes a whole file beside the path and links it there, so that a crash leaves no half of a token and two
// processes do not make two.
func createToken(path string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	token, err := fieldgate.NewToken(fieldgate.PrefixOperator)
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+OperatorTokenFile+"-*") // 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(token + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", err
	}
	if err := os.Link(file.Name(), path); errors.Is(err, fs.ErrExist) {
		return readToken(path)
	} else if err != nil {
		return "", err
	}
	return token, nil
}

// Verify says whether a token is the operator's. Hashes are compared in constant time.
func (o *Operator) Verify(token []byte) bool {
	hash := fieldgate.HashToken(token)
	return subtle.ConstantTimeCompare(hash[:], o.hash[:]) == 1
}
