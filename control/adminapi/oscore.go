package adminapi

import (
	"context"
	"encoding/hex"

	"fieldgate/api"
	"fieldgate/control/fleet"
	"fieldgate/control/refusal"
)

func oscoreIDs(d *fleet.Device) *api.OscoreIds {
	if d.OSCORE == nil {
		return nil
	}
	return &api.OscoreIds{SenderId: hex.EncodeToString(d.OSCORE.SenderID), IdContext: hex.EncodeToString(d.OSCORE.IDContext)}
}

func newOSCORE(body *api.OscoreContext) (*fleet.OSCOREContext, error) {
	if body == nil {
		return nil, nil
	}
	c := new(fleet.OSCOREContext)
	for _, part := range []struct {
		name, text string
		to         *[]byte
	}{{"master secret", body.MasterSecret, &c.MasterSecret}, {"master salt", body.MasterSalt, &c.MasterSalt}, {"id context", body.IdContext, &c.IDContext},
		{"sender id", body.SenderId, &c.SenderID}, {"recipient id", body.RecipientId, &c.RecipientID}} {
		var err error
		if *part.to, err = hex.DecodeString(part.text); err != nil {
			return nil, refusal.Invalid("The %s is not hexadecimal: write two digits for each byte.", part.name) // and not what was written
		}
	}
	return c, nil
}

func (o *operations) SetDeviceOscore(ctx context.Context, request SetDeviceOscoreRequestObject) (SetDeviceOscoreResponseObject, error) {
	given, err := newOSCORE(request.Body.Context)
	if err != nil {
		return nil, err
	}
	issued, err := o.config.Fleet.SetOSCORE(ctx, request.Device, given, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, issued.Device, err)
	if err != nil {
		return nil, err
	}
	c := &issued.Context
	return SetDeviceOscore200JSONResponse{Body: api.DeviceWithOscore{Device: answer.Body, Context: api.OscoreContext{MasterSecret: hex.EncodeToString(c.MasterSecret),
		MasterSalt: hex.EncodeToString(c.MasterSalt), IdContext: hex.EncodeToString(c.IDContext), SenderId: hex.EncodeToString(c.SenderID),
		RecipientId: hex.EncodeToString(c.RecipientID)}}, Headers: SetDeviceOscore200ResponseHeaders{ETag: answer.Headers.ETag}}, nil
}

func (o *operations) RemoveDeviceOscore(ctx context.Context, request RemoveDeviceOscoreRequestObject) (RemoveDeviceOscoreResponseObject, error) {
	d, err := o.config.Fleet.RemoveOSCORE(ctx, request.Device, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return RemoveDeviceOscore200JSONResponse{answer}, nil
}
