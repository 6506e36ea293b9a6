package coapfront

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// Resources of the directory (RFC 9176 section 4.3 lets them have any path: clients find them by their resource types).
const (
	directoryPath       = "/rd"
	directoryRegistered = "/rd/"
	directoryResources  = "/rd-lookup/res"
	directoryEndpoints  = "/rd-lookup/ep"
	directorySimple     = "/.well-known/rd" // RFC 9176 section 5.1
)

// ScopeLookup is the scope of apps that may look up what devices have registered.
const ScopeLookup = "devices.lookup"

// directoryLinks are what /.well-known/core says of the directory (RFC 9176 section 4.1).
var directoryLinks = []link{directoryLink(directoryPath, "core.rd"), directoryLink(directoryEndpoints, "core.rd-lookup-ep"), directoryLink(directoryResources, "core.rd-lookup-res")}

func directoryLink(path, resourceType string) link {
	return link{path, []attribute{{"rt", []string{resourceType}}, {"ct", []string{"40"}}}}
}

func isDirectory(path []byte) bool {
	switch string(path) {
	case directoryPath, directoryResources, directoryEndpoints, directorySimple:
		return true
	}
	return bytes.HasPrefix(path, []byte(directoryRegistered))
}

var (
	errNotRegistered = fieldgate.NewProblem(fieldgate.ProblemNotFound, "There is no such registration: it has ended, or never was. Register again.")
	errNotOwn        = fieldgate.NewProblem(fieldgate.ProblemNotOwner, "A device registers itself: ep and the path of a registration are its own id.")
	errNotOverOSCORE = fieldgate.NewProblem(fieldgate.ProblemForbidden, "Requests to a device are not protected by OSCORE: register over DTLS or TLS.")
	errNoDevice      = fieldgate.NewProblem(fieldgate.ProblemForbidden, "Only devices register.")
	errNoLookup      = fieldgate.NewProblem(fieldgate.ProblemForbidden, "To look devices up an app needs the scope "+ScopeLookup+".")
	errDirectoryVerb = &fieldgate.Problem{Code: fieldgate.ProblemMethodNotAllowed, Detail: "The resource directory has no such method here (RFC 9176 section 5)."}
	errConditions    = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The resource directory takes no conditions.")
	errLinkMedia     = fieldgate.NewProblem(fieldgate.ProblemUnsupportedMedia, "Registrations are in link format, content format 40.")
	errTooOften      = &fieldgate.Problem{Code: fieldgate.ProblemRateLimited, Detail: "The device registers too often.", RetryAfter: registerEach}
)

// serveDirectory answers a request to the resource directory.
func (x *exchange) serveDirectory(ctx context.Context) {
	returned := false
	defer func() { x.end(returned) }()
	if problem := x.askDirectory(ctx); problem != nil {
		x.front.refuse(&x.Exchange, problem, x.response)
	}
	x.trust()
	returned = true
}

func (x *exchange) askDirectory(ctx context.Context) *fieldgate.Problem {
	f := x.front
	problem := x.sender()
	if problem == nil {
		problem = x.fill()
	}
	if problem != nil {
		f.pipeline.Malformed(&x.Exchange, problem)
		return problem
	}
	if problem := f.pipeline.BeginOwn(&x.Exchange); problem != nil {
		return problem
	}
	_, match := x.request.Option(coap.IfMatch)
	if _, none := x.request.Option(coap.IfNoneMatch); match || none {
		return fail(&x.Exchange, errConditions) // critical, so they must not be passed over (RFC 7252 section 5.4.1)
	}
	x.BytesIn = uint64(len(x.request.Body))
	if path := string(x.Path); path == directoryResources || path == directoryEndpoints {
		problem = f.devices.lookUp(&x.Exchange, x.request, x.response)
	} else {
		problem = f.devices.register(ctx, x.listener, &x.Exchange, x.request, x.response)
	}
	if problem != nil {
		return fail(&x.Exchange, problem)
	}
	x.Answer.Status = coaphttp.StatusOf(x.response.Code, len(x.response.Body) > 0)
	x.BytesOut = uint64(len(x.response.Body))
	return nil
}

// register carries out what a device asks about its registration.
func (d *Devices) register(ctx context.Context, l *listener, x *pipeline.Exchange, request *coap.Request, response *coap.Response) *fieldgate.Problem {
	switch {
	case x.Principal.Kind != fieldgate.PrincipalDevice:
		return errNoDevice
	case request.Protection() != nil:
		return errNotOverOSCORE
	}
	device := d.device(x.Principal.ID)
	if !device.allowed(time.Now()) {
		return errTooOften
	}
	at := whereabouts{l, request.Peer, x.Source}
	path := string(x.Path)
	own, registered := strings.CutPrefix(path, directoryRegistered)
	switch {
	case registered && own != device.id:
		return errNotOwn
	case registered && request.Code == coap.DELETE:
		response.Code = coap.Deleted
		return d.removeRegistration(ctx, device)
	case request.Code != coap.POST:
		return errDirectoryVerb
	}
	wanted, problem := readRegistration(request, at)
	if problem == nil && wanted.endpoint != "" && wanted.endpoint != device.id {
		problem = errNotOwn
	}
	if problem != nil {
		return problem
	}
	switch {
	case path == directorySimple:
		response.Code = coap.Changed
		return d.registerSimply(device, at, wanted)
	case registered:
		response.Code = coap.Changed
		return d.store(ctx, device, at, wanted, true)
	}
	if problem := d.store(ctx, device, at, wanted, false); problem != nil {
		return problem
	}
	response.Code = coap.Created
	response.Options.AddString(coap.LocationPath, strings.TrimPrefix(directoryPath, "/"))
	response.Options.AddString(coap.LocationPath, device.id)
	return nil
}

// wantedRegistration is what a request says of a registration.
type wantedRegistration struct {
	endpoint, sector string
	lifetime         time.Duration // 0: not said
	base             *netip.AddrPort
	sleeps           *bool
	attributes       []string
	links            *string
}

// readRegistration reads the parameters of RFC 9176 section 5, and those of LwM2M by which a device says that it sleeps.
func readRegistration(request *coap.Request, at whereabouts) (w wantedRegistration, problem *fieldgate.Problem) {
	for it := request.Iterate(); it.Next(); {
		if it.Number != coap.URIQuery {
			continue
		}
		name, value, valued := strings.Cut(string(it.Value), "=")
		if !utf8.Valid(it.Value) || !isText(string(it.Value)) || name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isToken(r) }) {
			return w, errParameter(name, "is not a name, or a name, = and a value, in UTF-8 without control characters")
		}
		switch name {
		case "ep":
			w.endpoint = value
		case "d":
			w.sector = value
		case "lt":
			seconds, err := strconv.ParseUint(value, 10, 32)
			if w.lifetime = time.Duration(seconds) * time.Second; err != nil || seconds == 0 || w.lifetime > fieldgate.MaxDeviceLifetime {
				return w, errParameter(name, fmt.Sprintf("is a number of seconds from 1 to %d", fieldgate.MaxDeviceLifetime/time.Second))
			}
			w.lifetime = max(w.lifetime, fieldgate.MinDeviceLifetime)
		case "base":
			base, ok := readBase(value, at)
			if !ok {
				return w, errParameter(name, "is coap://ADDRESS:PORT with the address that the registration comes from; leave it out where the device serves at the port that it sends from, and over DTLS, TCP and WebSocket")
			}
			w.base = &base
		default:
			if len(w.attributes) == fieldgate.MaxDeviceAttributes {
				return w, errParameter(name, fmt.Sprintf("is one of more than %d parameters", fieldgate.MaxDeviceAttributes))
			}
			if sleeps, says := saysSleeps(name, value, valued); says {
				w.sleeps = &sleeps
			}
			w.attributes = append(w.attributes, string(it.Value))
		}
	}
	if format, given := request.Uint(coap.ContentFormat); given && format != coap.LinkFormat && len(request.Body) > 0 {
		return w, errLinkMedia
	}
	if len(request.Body) > 0 {
		links := string(request.Body)
		if _, err := parseLinks(links); err != nil {
			return w, fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The body "+err.Error()+".")
		}
		w.links = &links
	}
	return w, nil
}

// saysSleeps reads LwM2M's queue mode: Q since version 1.1, before it the Q in b=UQ (OMA-TS-LightweightM2M_Core 1.1 section 6.2.1).
func saysSleeps(name, value string, valued bool) (sleeps, says bool) {
	switch name {
	case "Q":
		return !valued || value != "0" && value != "false", true
	case "b":
		return strings.Contains(value, "Q"), true
	}
	return false, false
}

func errParameter(name, what string) *fieldgate.Problem {
	return &fieldgate.Problem{Code: fieldgate.ProblemInvalidParameter, Detail: "The parameter " + what + ".", Pointer: name}
}

// readBase takes a base that is the device itself: what would make the gateway send requests to others is refused (RFC 9176 section 7.1).
func readBase(text string, at whereabouts) (base netip.AddrPort, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "coap" || at.listener.session() || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return base, false
	}
	address, err := netip.ParseAddr(u.Hostname())
	port, portErr := strconv.ParseUint(cmpOr(u.Port(), "5683"), 10, 16)
	return netip.AddrPortFrom(address, uint16(port)), err == nil && portErr == nil && port > 0 && address == at.source.Addr().Unmap()
}

func cmpOr(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// store makes a registration durable, or changes the one that is there. That a device registers anew begins another (RFC 9176 section 5).
func (d *Devices) store(ctx context.Context, device *device, at whereabouts, w wantedRegistration, update bool) *fieldgate.Problem {
	if update && (w.endpoint != "" || w.sector != "") {
		return errParameter("ep", "cannot be changed by an update, nor can d (RFC 9176 section 5.3.1)")
	}
	now := time.Now()
	var stored *fieldgate.DeviceRegistration
	problem := d.change(ctx, device.id, func(before *fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) {
		r := &fieldgate.DeviceRegistration{Device: device.id, Sector: w.sector, Lifetime: fieldgate.DefaultDeviceLifetime, Since: now}
		if update {
			if before == nil {
				return nil, errNotRegistered
			}
			*r = *before
		}
		if w.lifetime > 0 {
			r.Lifetime = w.lifetime
		}
		if w.base != nil {
			r.Base = *w.base
		}
		if w.sleeps != nil {
			r.Sleeps = *w.sleeps
		}
		if w.links != nil {
			r.Links = *w.links
		}
		r.Attributes = mergeAttributes(r.Attributes, w.attributes)
		r.Left, r.Updated = r.Lifetime, now
		d.settle(r, at)
		stored = r
		return r, nil
	})
	if problem == nil {
		d.learnRegistration(device.id, stored)
	}
	return problem
}

// mergeAttributes lets newer parameters take the place of older ones of the same name.
func mergeAttributes(before, newer []string) []string {
	name := func(attribute string) string { n, _, _ := strings.Cut(attribute, "="); return n }
	kept := slices.DeleteFunc(slices.Clone(before), func(old string) bool {
		return slices.ContainsFunc(newer, func(n string) bool { return name(n) == name(old) })
	})
	kept = append(kept, newer...)
	return kept[:min(len(kept), fieldgate.MaxDeviceAttributes)]
}

func (d *Devices) removeRegistration(ctx context.Context, device *device) *fieldgate.Problem {
	problem := d.change(ctx, device.id, func(before *fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) {
		if before == nil {
			return nil, errNotRegistered
		}
		return nil, nil
	})
	if problem == nil {
		d.learnRegistration(device.id, nil)
	}
	return problem
}

// change changes a registration, or says why it could not be stored.
func (d *Devices) change(ctx context.Context, id string, change func(*fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error)) *fieldgate.Problem {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	return stored(d.shared.Register(ctx, id, change))
}

// stored is the problem of a change that did not come about.
func stored(err error) *fieldgate.Problem {
	if err == nil {
		return nil
	}
	if problem, ok := errors.AsType[*fieldgate.Problem](err); ok {
		return problem
	}
	detail := "It could not be stored; send it again later."
	if errors.Is(err, bus.ErrFull) {
		detail = "There is no room for more; send it again later."
	}
	return &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: detail, Cause: err}
}

// registerSimply asks the device what it offers, and registers that (RFC 9176 section 5.1).
func (d *Devices) registerSimply(device *device, at whereabouts, w wantedRegistration) *fieldgate.Problem {
	if w.base != nil {
		return errParameter("base", "has no place in a simple registration (RFC 9176 section 5.1)")
	}
	if !d.begin(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
		defer cancel()
		call := &coap.Call{Code: coap.GET}
		call.Options.AddString(coap.URIPath, ".well-known")
		call.Options.AddString(coap.URIPath, "core")
		call.Options.AddUint(coap.Accept, coap.LinkFormat)
		reply, err := at.listener.Do(ctx, at.peer, call)
		if err != nil || reply.Code != coap.Content {
			d.logger.Debug("a device that registers does not say what it offers", "device", device.id, "error", err)
			return
		}
		links := string(reply.Body)
		if _, err := parseLinks(links); err != nil {
			d.logger.Debug("what a device offers cannot be read", "device", device.id, "error", err)
			return
		}
		w.links = &links
		if problem := d.store(ctx, device, at, w, false); problem != nil {
			d.logger.Warn("a device could not be registered", "device", device.id, "error", problem)
		}
	}) {
		return errBusy
	}
	return nil
}
