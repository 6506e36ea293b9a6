package adminapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"

	"fieldgate/api"
	"fieldgate/control/fleet"
	"fieldgate/control/refusal"
)

const (
	importBatch   = 1000
	maxImportLine = 4 << 10
)

func (o *operations) ImportDevices(ctx context.Context, request ImportDevicesRequestObject) (ImportDevicesResponseObject, error) {
	lines := bufio.NewScanner(request.Body)
	lines.Buffer(make([]byte, 0, maxImportLine), maxImportLine)
	return ImportDevices200ApplicationxNdjsonResponse{Body: &importer{ctx: ctx, fleet: o.config.Fleet, lines: lines}}, nil
}

// importer is the answer to an import: reading it carries the import out, batch by batch.
type importer struct {
	ctx    context.Context
	fleet  *fleet.Fleet
	lines  *bufio.Scanner
	answer bytes.Buffer
	ended  bool
}

func (i *importer) Read(p []byte) (int, error) {
	for i.answer.Len() == 0 {
		if i.ended {
			return 0, io.EOF
		}
		i.answer.Reset()
		if err := i.nextBatch(); err != nil {
			// The status is sent already: the last line says what happened.
			i.ended = true
			i.tell(api.ImportLine{Problem: new(problemOf(err))})
		}
	}
	return i.answer.Read(p)
}

func (i *importer) nextBatch() error {
	var devices []fleet.NewDevice
	unreadable := make(map[int]bool) // by the place in the batch
	for len(devices) < importBatch && !i.ended {
		if !i.lines.Scan() {
			i.ended = true
			break
		}
		line := bytes.TrimSpace(i.lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var device api.NewDevice
		if err := json.Unmarshal(line, &device); err != nil {
			unreadable[len(devices)] = true
			device = api.NewDevice{}
		}
		devices = append(devices, fleet.NewDevice{ID: device.Id, Model: device.Model, Firmware: device.Firmware})
	}
	if len(devices) > 0 {
		imported, err := i.fleet.Import(i.ctx, devices)
		if err != nil {
			return err
		}
		for place, result := range imported {
			told := api.ImportLine{Id: result.ID, Token: result.Token}
			if result.Refused != nil {
				told.Problem = new(problemOf(result.Refused))
			}
			if unreadable[place] {
				told.Problem = new(problemOf(refusal.Invalid("The line is no JSON object of a device.")))
			}
			i.tell(told)
		}
	}
	if i.lines.Err() == bufio.ErrTooLong {
		return refusal.Invalid("A line has at most %d bytes; this one and the following were not read.", maxImportLine)
	}
	return i.lines.Err()
}

func (i *importer) tell(result api.ImportLine) {
	if err := json.NewEncoder(&i.answer).Encode(result); err != nil {
		panic(err) // plain strings and numbers
	}
}
