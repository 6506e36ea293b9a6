package coaphttp

import (
	"fieldgate"
	"fieldgate/protocol/coap"
)

// CodeOf is the response code for a status of HTTP (RFC 8075 section 7). RFC 7252 section 5.9.1 ties the codes for
// success to the method.
func CodeOf(status int, method fieldgate.Method) coap.Code {
	switch {
	case status == 201:
		return coap.Created
	case status == 304:
		return coap.Valid
	case status >= 200 && status < 300:
		switch method {
		case fieldgate.MethodGet, fieldgate.MethodFetch:
			return coap.Content
		case fieldgate.MethodDelete:
			return coap.Deleted
		}
		return coap.Changed
	}
	switch status {
	case 401:
		return coap.Unauthorized
	case 403:
		return coap.Forbidden
	case 404, 410:
		return coap.NotFound
	case 405:
		return coap.MethodNotAllowed
	case 406:
		return coap.NotAcceptable
	case 409:
		return coap.Conflict
	case 412:
		return coap.PreconditionFailed
	case 413:
		return coap.RequestEntityTooLarge
	case 415:
		return coap.UnsupportedContentFormat
	case 422:
		return coap.UnprocessableEntity
	case 429:
		return coap.TooManyRequests
	case 501:
		return coap.NotImplemented
	case 502:
		return coap.BadGateway
	case 503:
		return coap.ServiceUnavailable
	case 504:
		return coap.GatewayTimeout
	case 508:
		return coap.HopLimitReached
	}
	switch {
	case status >= 400 && status < 500:
		return coap.BadRequest
	case status >= 300 && status < 400:
		return coap.BadGateway // CoAP has no redirection, and following one is not the gateway's to decide
	}
	return coap.InternalServerError
}

// StatusOf is the status of HTTP for a response code (RFC 8075 section 7, RFC 8516, RFC 8768 appendix A). content says whether the
// response has a payload. 0: there is none, since the code is no final response.
func StatusOf(code coap.Code, content bool) int {
	switch code {
	case coap.Created:
		return 201
	case coap.Deleted, coap.Changed:
		if content {
			return 200
		}
		return 204
	case coap.Valid:
		return 304
	case coap.Content:
		return 200
	case coap.Continue:
		return 0
	case coap.Unauthorized:
		return 401
	case coap.Forbidden:
		return 403
	case coap.NotFound:
		return 404
	case coap.MethodNotAllowed:
		return 405
	case coap.NotAcceptable:
		return 406
	case coap.Conflict:
		return 409
	case coap.PreconditionFailed:
		return 412
	case coap.RequestEntityTooLarge:
		return 413
	case coap.UnsupportedContentFormat:
		return 415
	case coap.UnprocessableEntity:
		return 422
	case coap.TooManyRequests:
		return 429
	case coap.NotImplemented:
		return 501
	case coap.BadGateway, coap.ProxyingNotSupported:
		return 502
	case coap.ServiceUnavailable:
		return 503
	case coap.GatewayTimeout:
		return 504
	case coap.HopLimitReached:
		return 508
	}
	switch code.Class() { // RFC 7252 section 5.8: an unknown code is the x.00 of its class
	case 2:
		return 200
	case 4:
		return 400
	case 5:
		return 500
	}
	return 0
}
