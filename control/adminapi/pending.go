package adminapi

import (
	"context"
	"errors"
)

// errPending answers the operations of this file, whose capabilities are not there yet, with 501.
var errPending = errors.New("this operation is not available in this version")

func (o *operations) ListCaptures(context.Context, ListCapturesRequestObject) (ListCapturesResponseObject, error) {
	return nil, errPending
}

func (o *operations) StartCapture(context.Context, StartCaptureRequestObject) (StartCaptureResponseObject, error) {
	return nil, errPending
}

func (o *operations) EndCapture(context.Context, EndCaptureRequestObject) (EndCaptureResponseObject, error) {
	return nil, errPending
}

func (o *operations) GetCapture(context.Context, GetCaptureRequestObject) (GetCaptureResponseObject, error) {
	return nil, errPending
}
