package adminapi

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/fleet"
	"fieldgate/control/refusal"
	"fieldgate/control/rollout"
)

func pskIdentity(d *fleet.Device) string {
	if d.PSK == nil {
		return ""
	}
	return d.PSK.Identity
}

func deviceCertificates(d *fleet.Device) (all []api.DeviceCertificate) {
	for i := range d.Certificates {
		c := &d.Certificates[i]
		all = append(all, api.DeviceCertificate{Fingerprint: hex.EncodeToString(c.Fingerprint[:]), Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter, AddedAt: c.Added})
	}
	return all
}

// newDevice is what a device is to be registered with.
func newDevice(body *api.NewDevice) (fleet.NewDevice, error) {
	device := fleet.NewDevice{ID: body.Id, Model: body.Model, Firmware: body.Firmware}
	if body.Psk == nil {
		return device, nil
	}
	psk, err := newPSK(body.Psk)
	if err == nil && psk.Key == nil {
		err = refusal.Invalid("The pre-shared key has no key: only one that is set by itself is made by Fieldgate, which shows it then.")
	}
	device.PSK = &psk
	return device, err
}

func newPSK(body *api.NewPsk) (psk fleet.NewPSK, err error) {
	psk.Identity = body.Identity
	if body.Key == "" {
		return psk, nil
	}
	if psk.Key, err = hex.DecodeString(body.Key); err != nil {
		return psk, refusal.Invalid("The key is not hexadecimal: write two digits for each byte.") // and not what was written
	}
	return psk, nil
}

func (o *operations) SetDevicePsk(ctx context.Context, request SetDevicePskRequestObject) (SetDevicePskResponseObject, error) {
	psk, err := newPSK(request.Body)
	if err != nil {
		return nil, err
	}
	issued, err := o.config.Fleet.SetPSK(ctx, request.Device, psk, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, issued.Device, err)
	if err != nil {
		return nil, err
	}
	return SetDevicePsk200JSONResponse{Body: api.DeviceWithPsk{Device: answer.Body, Identity: answer.Body.PskIdentity, Key: hex.EncodeToString(issued.Key)},
		Headers: SetDevicePsk200ResponseHeaders{ETag: answer.Headers.ETag}}, nil
}

func (o *operations) RemoveDevicePsk(ctx context.Context, request RemoveDevicePskRequestObject) (RemoveDevicePskResponseObject, error) {
	d, err := o.config.Fleet.RemovePSK(ctx, request.Device, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return RemoveDevicePsk200JSONResponse{answer}, nil
}

func (o *operations) AddDeviceCertificate(ctx context.Context, request AddDeviceCertificateRequestObject) (AddDeviceCertificateResponseObject, error) {
	d, err := o.config.Fleet.AddCertificate(ctx, request.Device, request.Body.Certificate, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return AddDeviceCertificate200JSONResponse{answer}, nil
}

func (o *operations) RemoveDeviceCertificate(ctx context.Context, request RemoveDeviceCertificateRequestObject) (RemoveDeviceCertificateResponseObject, error) {
	var fingerprint fieldgate.CredentialHash
	if err := fingerprint.UnmarshalText([]byte(request.Fingerprint)); err != nil {
		return nil, refusal.Invalid("A fingerprint has 64 hexadecimal digits: it is the SHA-256 of the certificate.")
	}
	d, err := o.config.Fleet.RemoveCertificate(ctx, request.Device, fingerprint, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return RemoveDeviceCertificate200JSONResponse{answer}, nil
}

// secretsWarnings say which nodes cannot open the pre-shared keys. sealedBy is the name of the secrets key that they are sealed by; empty: there
// are none.
func (o *operations) secretsWarnings(sealedBy string, gateways []rollout.Gateway, now time.Time) (warnings []api.Warning) {
	warn := func(node, message string) {
		warnings = append(warnings, api.Warning{Code: api.WarningSecretsKey, Severity: api.SeverityBad, Node: node, Message: message,
			Remedy: "give it the same file as the other nodes (setting secrets-key-file) and send the process SIGHUP; until then only pre-shared keys are refused there"})
	}
	check := func(node, part, name, problem string) {
		switch {
		case problem != "":
			warn(node, fmt.Sprintf("%s %s: %s", part, node, problem))
		case sealedBy != "" && name == "":
			warn(node, fmt.Sprintf("%s %s does not have the secrets key %s that pre-shared keys are sealed by", part, node, sealedBy))
		case sealedBy != "" && name != sealedBy:
			warn(node, fmt.Sprintf("%s %s has the secrets key %s, but pre-shared keys are sealed by %s", part, node, name, sealedBy))
		}
	}
	together := false // a gateway in this process has the same key
	for i := range gateways {
		if g := &gateways[i]; !g.Silent(now) {
			check(g.Node, "gateway", g.SecretsKey, g.SecretsProblem)
			together = together || g.Node == o.config.Node
		}
	}
	if !together {
		check(o.config.Node, "control node", o.config.Secrets.Name(), o.config.Secrets.Problem())
	}
	return warnings
}
