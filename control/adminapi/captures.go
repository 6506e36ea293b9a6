package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/control/capture"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

const (
	defaultCaptureCount   = 10
	defaultCaptureSeconds = 60

	actionCaptureStart = "capture.start"
	actionCaptureEnd   = "capture.end"
)

func (o *operations) ListCaptures(ctx context.Context, _ ListCapturesRequestObject) (ListCapturesResponseObject, error) {
	actors, err := o.captureActors(ctx)
	if err != nil {
		return nil, err
	}
	answer := ListCaptures200JSONResponse{Items: []api.Capture{}}
	for _, c := range o.config.Captures.List() {
		answer.Items = append(answer.Items, captureAnswer(&c, actors[c.ID]))
	}
	return answer, nil
}

// captureActors is who began the captures that may still be held, by their ids; the audit knows them on every node.
func (o *operations) captureActors(ctx context.Context) (map[string]string, error) {
	terms, err := filter.Parse("action:"+actionCaptureStart+" since:1h", time.Now(), audit.Keys...)
	if err != nil {
		return nil, err
	}
	entries, err := audit.List(ctx, o.config.Store, audit.Filter{Terms: terms, Limit: maxLimit})
	actors := make(map[string]string, len(entries))
	for _, e := range entries {
		actors[e.Target] = e.Actor.Name
	}
	return actors, err
}

func captureAnswer(c *capture.Capture, actor string) api.Capture {
	return api.Capture{Id: c.ID, StartedAt: c.Begun.UTC(), EndsAt: c.Ends.UTC(), Actor: actor, Api: c.Filter.API, Operation: c.Filter.Operation,
		Principal: c.Filter.Principal, Protocol: c.Filter.Protocol, Refused: c.Filter.Refused, Count: c.Count, Caught: c.Exchanges, Active: !c.Ended}
}

func (o *operations) StartCapture(ctx context.Context, request StartCaptureRequestObject) (StartCaptureResponseObject, error) {
	b := request.Body
	if b.Protocol != "" && !b.Protocol.Valid() {
		return nil, refusal.Invalid("%.60q is no protocol that is known.", string(b.Protocol))
	}
	count, err := bounded("count", b.Count, defaultCaptureCount, fieldgate.MaxCaptureExchanges)
	if err != nil {
		return nil, err
	}
	seconds, err := bounded("seconds", b.Seconds, defaultCaptureSeconds, int(fieldgate.MaxCaptureDuration.Seconds()))
	if err != nil {
		return nil, err
	}
	wanted := fieldgate.CaptureFilter{API: b.Api, Operation: b.Operation, Principal: b.Principal, Protocol: string(b.Protocol), Refused: b.Refused}
	id, err := o.config.Captures.Start(wanted, count, time.Duration(seconds)*time.Second)
	if err != nil {
		return nil, err
	}
	if err := o.auditAction(ctx, audit.Change{Action: actionCaptureStart, Target: id, After: wanted}); err != nil {
		// What nobody can be held to account for is not captured.
		return nil, fmt.Errorf("%w (ending the capture: %v)", err, o.config.Captures.Stop(id))
	}
	started, _, err := o.config.Captures.Get(id)
	if err != nil {
		return nil, err
	}
	actor, _ := audit.ActorOf(ctx)
	return StartCapture201JSONResponse(captureAnswer(&started, actor.Name)), nil
}

// auditAction puts down what no transaction carries out. It comes before what is done where that can be: what nobody can be held to account for
// is not done.
func (o *operations) auditAction(ctx context.Context, change audit.Change) error {
	if err := o.config.Store.Update(ctx, func(tx *store.Tx) error { return audit.Write(ctx, tx, change) }); err != nil {
		return err
	}
	audit.Nudge(o.config.Bus, o.config.Log)
	return nil
}

func (o *operations) EndCapture(ctx context.Context, request EndCaptureRequestObject) (EndCaptureResponseObject, error) {
	if err := o.config.Captures.Stop(request.Capture); err != nil {
		return nil, err
	}
	if err := o.auditAction(ctx, audit.Change{Action: actionCaptureEnd, Target: request.Capture}); err != nil {
		return nil, err
	}
	return EndCapture204Response{}, nil
}

func (o *operations) GetCapture(ctx context.Context, request GetCaptureRequestObject) (GetCaptureResponseObject, error) {
	c, exchanges, err := o.config.Captures.Get(request.Capture)
	if err != nil {
		return nil, err
	}
	actors, err := o.captureActors(ctx)
	if err != nil {
		return nil, err
	}
	answer := GetCapture200JSONResponse{Capture: captureAnswer(&c, actors[c.ID]), Exchanges: []api.CapturedExchange{}}
	for i := range exchanges {
		answer.Exchanges = append(answer.Exchanges, capturedExchange(&exchanges[i]))
	}
	return answer, nil
}

// captured is what some capture has of an exchange; nil when none has it.
func (o *operations) captured(instance string) (*api.CapturedExchange, error) {
	for _, c := range o.config.Captures.List() {
		_, exchanges, err := o.config.Captures.Get(c.ID)
		if err != nil {
			return nil, err
		}
		for i := range exchanges {
			if exchanges[i].Instance == instance {
				answer := capturedExchange(&exchanges[i])
				return &answer, nil
			}
		}
	}
	return nil, nil
}

func capturedExchange(c *fieldgate.Captured) api.CapturedExchange {
	return api.CapturedExchange{Instance: c.Instance, Path: c.Path, Query: c.Query, Request: capturedMessage(&c.Request), Response: capturedMessage(&c.Response)}
}

func capturedMessage(c *fieldgate.CapturedContent) api.CapturedMessage {
	answer := api.CapturedMessage{Headers: []api.CapturedHeader{}, ContentType: c.Type, Body: c.Data, Json: c.JSON != nil, Size: int(c.Bytes), Note: c.Note}
	for _, field := range c.Fields {
		answer.Headers = append(answer.Headers, api.CapturedHeader{Name: field.Name, Value: field.Value, Redacted: field.Redacted})
	}
	if c.JSON != nil {
		answer.Body = c.JSON
		var value any
		if json.Unmarshal(c.JSON, &value) == nil {
			answer.Redacted = redactions(value, "", nil)
		}
	}
	if answer.Body == nil {
		answer.Body = []byte{}
	}
	return answer
}

// redactions finds the markers that a gateway put in the place of values.
func redactions(value any, pointer string, found []api.Redaction) []api.Redaction {
	switch v := value.(type) {
	case map[string]any:
		if reason, is := v["redacted"].(string); is && len(v) == 1 {
			return append(found, api.Redaction{Pointer: pointer, Reason: reason})
		}
		for key, member := range v {
			found = redactions(member, pointer+"/"+pointerEscapes.Replace(key), found)
		}
	case []any:
		for i, item := range v {
			found = redactions(item, pointer+"/"+strconv.Itoa(i), found)
		}
	}
	return found
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1") // RFC 6901 section 3
