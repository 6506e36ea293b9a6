package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"fieldgate"
	"fieldgate/api/client"
	"fieldgate/control/access"
)

// connect is a client of the admin API: at --admin, or else at the socket file of the environment file.
func (c *cli) connect() (*client.ClientWithResponses, error) {
	address, tokenFile := c.admin, c.tokenFile
	if address == "" || tokenFile == "" {
		e, err := readAdminPlace(c.environmentPath())
		if err != nil {
			if c.admin != "" {
				return nil, fmt.Errorf("the operator token is in the data folder, which is not known here; name its file with --token-file (%w)", err)
			}
			return nil, err
		}
		if address == "" {
			address = "unix:" + e.AdminSocket
		}
		if tokenFile == "" {
			tokenFile = filepath.Join(e.Data, access.OperatorTokenFile)
		}
	}
	token, err := readToken(tokenFile)
	if err != nil {
		return nil, err
	}
	return client.Open(address, token)
}

// readAdminPlace reads no more of an environment file than where its node keeps socket file and token: what runs can be asked while
// another setting has an error. Where these cannot be read it says what is wrong with the file.
func readAdminPlace(path string) (*environment, error) {
	e, err := readEnvironment(path)
	if err == nil {
		return e, nil
	}
	text, unread := os.ReadFile(path)
	if unread != nil || len(text) > maxEnvironment {
		return nil, err
	}
	place := struct {
		Data        string `yaml:"data"`
		AdminSocket string `yaml:"admin-socket"`
	}{defaultEnvironment().Data, defaultEnvironment().AdminSocket}
	if yaml.Unmarshal(text, &place) != nil || place.Data == "" || place.AdminSocket == "" {
		return nil, err
	}
	e = &environment{Data: place.Data, AdminSocket: place.AdminSocket}
	e.resolve(path)
	return e, nil
}

// readToken reads a file with one token, which nobody but its owner may read.
func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no operator token at %s: run \"fieldgate init\", or name the file with --token-file", path)
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := ownerOnly(file); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if !fieldgate.WellFormedToken([]byte(token)) {
		return "", fmt.Errorf("%s holds no token: it is damaged, or another file was named", path)
	}
	return token, nil
}

func ownerOnly(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("others may read %s (mode %04o): run \"chmod 600 %s\", and think of who may have read it", file.Name(), mode, file.Name())
	}
	return nil
}
