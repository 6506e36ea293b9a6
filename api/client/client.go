// Package client is the Go client of the admin API: generated from its contract, with a door over TCP or a socket file,
// and with refusals as errors.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"fieldgate/api"
)

const (
	dialTimeout     = 5 * time.Second
	maxProblemBytes = 4 << 20
	maxEventBytes   = 1 << 20
)

// ErrUnreachable says that nothing listens at the address.
var ErrUnreachable = errors.New("nobody answers")

// Open is a client for the server at address, "unix:" and the path of a socket file or "http://host:port", that presents
// the operator token. Nothing is sent yet. All its methods return answers that are not a success as *api.Problem, so that
// without an error the field of the successful answer is set.
func Open(address, token string) (*ClientWithResponses, error) {
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	server := address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		server = "http://fieldgate"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
		}
	} else if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of the admin API: give unix:/path/to/admin.sock or http://host:port", address)
	}
	return NewClientWithResponses(server, WithHTTPClient(&doer{
		client:  &http.Client{Transport: transport},
		address: address,
		token:   token,
	}))
}

// doer adds the token to requests and turns refusals into errors.
type doer struct {
	client  *http.Client
	address string
	token   string
}

func (d *doer) Do(request *http.Request) (*http.Response, error) {
	request.Header.Set("Authorization", "Bearer "+d.token)
	response, err := d.client.Do(request)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
			return nil, fmt.Errorf("%w at %s: start it with \"fieldgate serve\", or name its address", ErrUnreachable, d.address)
		}
		return nil, err
	}
	if response.StatusCode < 400 {
		return response, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProblemBytes))
	if err != nil {
		return nil, err
	}
	problem := &api.Problem{}
	if json.Unmarshal(body, problem) != nil || problem.Title == "" {
		problem = &api.Problem{Type: "about:blank", Title: response.Status}
	}
	problem.Status = response.StatusCode
	return nil, problem
}

// ReadEvents hands each server-sent event of a stream to handle, until the stream ends or handle returns an error, which
// is passed on.
func ReadEvents(stream io.Reader, handle func(event string, data []byte) error) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxEventBytes)
	var event string
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 {
			if data != nil {
				if err := handle(event, data); err != nil {
					return err
				}
			}
			event, data = "", nil
		} else if value, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			event = string(value)
		} else if value, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			data = append(data, value...)
		}
	}
	return lines.Err()
}
