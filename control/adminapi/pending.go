package adminapi

import (
	"context"
	"errors"
)

// errPending answers the operations of this file, whose capabilities are not there yet, with 501.
var errPending = errors.New("this operation is not available in this version")

func (o *operations) ListCallers(context.Context, ListCallersRequestObject) (ListCallersResponseObject, error) {
	return nil, errPending
}

func (o *operations) GetReference(context.Context, GetReferenceRequestObject) (GetReferenceResponseObject, error) {
	return nil, errPending
}

func (o *operations) UpdateApp(context.Context, UpdateAppRequestObject) (UpdateAppResponseObject, error) {
	return nil, errPending
}

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

func (o *operations) StreamEvents(context.Context, StreamEventsRequestObject) (StreamEventsResponseObject, error) {
	return nil, errPending
}

func (o *operations) ListFindings(context.Context, ListFindingsRequestObject) (ListFindingsResponseObject, error) {
	return nil, errPending
}

func (o *operations) GetTimeline(context.Context, GetTimelineRequestObject) (GetTimelineResponseObject, error) {
	return nil, errPending
}

func (o *operations) GetExchange(context.Context, GetExchangeRequestObject) (GetExchangeResponseObject, error) {
	return nil, errPending
}

func (o *operations) GetTrafficSeries(context.Context, GetTrafficSeriesRequestObject) (GetTrafficSeriesResponseObject, error) {
	return nil, errPending
}

func (o *operations) DraftContract(context.Context, DraftContractRequestObject) (DraftContractResponseObject, error) {
	return nil, errPending
}

func (o *operations) GetReadiness(context.Context, GetReadinessRequestObject) (GetReadinessResponseObject, error) {
	return nil, errPending
}
