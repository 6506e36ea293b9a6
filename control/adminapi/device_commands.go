package adminapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
)

const (
	defaultAskSeconds = 30
	maxAskSeconds     = 120
)

var deviceMethods = []string{"GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "IPATCH"}

// registration is what a device has registered; nil also while the bus is away, which the state of the node says.
func (o *operations) registration(ctx context.Context, device string) *api.DeviceRegistration {
	r, err := o.config.Commands.Registration(ctx, device)
	if err != nil {
		o.config.Log.Debug("what a device has registered cannot be read", "device", device, "error", err)
	}
	if r == nil {
		return nil
	}
	shown := &api.DeviceRegistration{Node: r.Node, Transport: r.Transport, Address: r.Address.String(), Sector: r.Sector, Since: r.Since.UTC(), UpdatedAt: r.Updated.UTC(),
		LifetimeSeconds: seconds(r.Lifetime), LeftSeconds: seconds(r.Left), Sleeps: r.Sleeps, Parameters: r.Attributes, Links: r.Links}
	if r.Base.IsValid() {
		shown.Base = r.Base.String()
	}
	return shown
}

func seconds(d time.Duration) int64 { return int64(max(d, 0) / time.Second) }

func deviceRequest(r *api.DeviceRequest) (fieldgate.DeviceRequest, error) {
	wanted := fieldgate.DeviceRequest{Method: strings.ToUpper(r.Method), Path: r.Path, Query: r.Query, ContentType: r.ContentType, Accept: r.Accept, Body: r.Body}
	if !slices.Contains(deviceMethods, wanted.Method) {
		return wanted, refusal.Invalid("%.20q is no method of CoAP: it is one of %s.", r.Method, strings.Join(deviceMethods, ", "))
	}
	if !strings.HasPrefix(r.Path, "/") || len(r.Path) > fieldgate.MaxPathBytes || len(r.Query) > fieldgate.MaxPathBytes {
		return wanted, refusal.Invalid("%.60q is no path: it begins with a slash, such as /3/0/13, and has at most %d bytes.", r.Path, fieldgate.MaxPathBytes)
	}
	if len(r.Body) > fieldgate.MaxDeviceCommandBytes {
		return wanted, refusal.Invalid("The body has %d bytes; at most %d go to a device.", len(r.Body), fieldgate.MaxDeviceCommandBytes)
	}
	wait, err := bounded("timeoutSeconds", r.TimeoutSeconds, defaultAskSeconds, maxAskSeconds)
	wanted.Timeout = time.Duration(wait) * time.Second
	wanted.Idempotent = wanted.Method != "POST" && wanted.Method != "PATCH" // RFC 7252 section 5.1, RFC 8132 section 1
	return wanted, err
}

func deviceReply(a *fieldgate.DeviceAnswer, bytes int, withBody bool) *api.DeviceReply {
	reply := &api.DeviceReply{Code: a.Code, Status: a.Status, ContentType: a.ContentType, Bytes: bytes, Location: a.Location}
	if withBody {
		reply.Body = a.Body
	}
	return reply
}

func deviceCommand(c *fieldgate.DeviceCommand, withBody bool) api.DeviceCommand {
	shown := api.DeviceCommand{Id: c.ID, By: c.By, Operation: c.Operation, Method: c.Request.Method, Path: c.Request.Path, Query: c.Request.Query, QueuedAt: c.Queued.UTC(),
		LeftSeconds: seconds(c.Left), State: api.DeviceCommandState(c.State), Attempts: c.Attempts, ChangedAt: c.Changed.UTC()}
	if c.Answer != nil {
		shown.Reply = deviceReply(c.Answer, c.Bytes, withBody)
	}
	return shown
}

// deviceThere refuses a device that is not registered with Fieldgate, or may not be asked.
func (o *operations) deviceThere(ctx context.Context, id string, asked bool) error {
	d, err := o.config.Fleet.Get(ctx, id)
	if err == nil && asked && d.State != fieldgate.StateActive {
		err = refusal.Conflict("The device %q is %s: it is not asked anything.", id, d.State)
	}
	return err
}

// requestFacts is what the audit keeps of a request to a device: nothing of what it carries.
type requestFacts struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Bytes  int    `json:"bytes,omitempty"`
}

func (o *operations) auditRequest(ctx context.Context, action, device string, r *fieldgate.DeviceRequest) error {
	return o.auditAction(ctx, audit.Change{Action: action, Target: device, Detail: auditName(r.Method + " " + r.Path), After: requestFacts{r.Method, auditName(r.Path), len(r.Body)}})
}

func (o *operations) AskDevice(ctx context.Context, request AskDeviceRequestObject) (AskDeviceResponseObject, error) {
	wanted, err := deviceRequest(request.Body)
	if err != nil {
		return nil, err
	}
	if err := o.deviceThere(ctx, request.Device, true); err != nil {
		return nil, err
	}
	if err := o.auditRequest(ctx, "device.request", request.Device, &wanted); err != nil {
		return nil, err
	}
	answer, err := o.config.Commands.Ask(ctx, request.Device, wanted)
	if err != nil {
		return nil, err
	}
	return AskDevice200JSONResponse(*deviceReply(answer, len(answer.Body), true)), nil
}

func (o *operations) ListDeviceCommands(ctx context.Context, request ListDeviceCommandsRequestObject) (ListDeviceCommandsResponseObject, error) {
	if err := o.deviceThere(ctx, request.Device, false); err != nil {
		return nil, err
	}
	list, err := o.config.Commands.List(ctx, request.Device)
	if err != nil {
		return nil, err
	}
	answer := ListDeviceCommands200JSONResponse{Items: []api.DeviceCommand{}}
	for i := len(list) - 1; i >= 0; i-- {
		answer.Items = append(answer.Items, deviceCommand(&list[i], false))
	}
	return answer, nil
}

func (o *operations) GetDeviceCommand(ctx context.Context, request GetDeviceCommandRequestObject) (GetDeviceCommandResponseObject, error) {
	command, err := o.config.Commands.Find(ctx, request.Device, request.Command)
	if err != nil {
		return nil, err
	}
	return GetDeviceCommand200JSONResponse(deviceCommand(command, true)), nil
}

func (o *operations) QueueDeviceCommand(ctx context.Context, request QueueDeviceCommandRequestObject) (QueueDeviceCommandResponseObject, error) {
	wanted, err := deviceRequest(&request.Body.Request)
	if err != nil {
		return nil, err
	}
	if request.Body.Idempotent != nil {
		wanted.Idempotent = *request.Body.Idempotent
	}
	wait := time.Duration(request.Body.WaitSeconds) * time.Second
	if request.Body.WaitSeconds < 1 || request.Body.WaitSeconds > int64(fieldgate.MaxDeviceQueue/time.Second) {
		return nil, refusal.Invalid("waitSeconds must be 1 to %d.", fieldgate.MaxDeviceQueue/time.Second)
	}
	if err := o.deviceThere(ctx, request.Device, true); err != nil {
		return nil, err
	}
	if err := o.auditRequest(ctx, "device.command", request.Device, &wanted); err != nil {
		return nil, err
	}
	actor, _ := audit.ActorOf(ctx)
	command, err := o.config.Commands.Queue(ctx, request.Device, "operator "+actor.Name, wanted, wait)
	if err != nil {
		return nil, err
	}
	return QueueDeviceCommand202JSONResponse(deviceCommand(command, false)), nil
}

func (o *operations) CancelDeviceCommand(ctx context.Context, request CancelDeviceCommandRequestObject) (CancelDeviceCommandResponseObject, error) {
	if err := o.auditAction(ctx, audit.Change{Action: "device.command-cancel", Target: request.Device, Detail: auditName(request.Command)}); err != nil {
		return nil, err
	}
	command, err := o.config.Commands.Cancel(ctx, request.Device, request.Command)
	if err != nil {
		return nil, err
	}
	return CancelDeviceCommand200JSONResponse(deviceCommand(command, false)), nil
}
