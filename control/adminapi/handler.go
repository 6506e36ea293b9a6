package adminapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/control/catalog"
)

const (
	maxRequestBytes = 64 << 10
	maxImportBytes  = 512 << 20

	publishPath    = "/api/v1/apis"
	publishAllPath = "/api/v1/imports/apis"
	importPath     = "/api/v1/imports/devices"
	streamPath     = "/api/v1/traffic/stream"
	eventsPath     = "/api/v1/events"
	messagesPath   = "/api/v1/mqtt/messages/stream"
)

// handler is the whole API: authentication, then bounds, then the operation.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	strict := NewStrictHandlerWithOptions(&operations{s}, []StrictMiddlewareFunc{s.awaitGateways, s.sendOnce, s.refuseWithoutStore}, StrictHTTPServerOptions{
		RequestErrorHandlerFunc: refuseRequest,
		ResponseErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) {
			refuse(s.config.Log, w, r, err)
		},
	})
	HandlerWithOptions(strict, StdHTTPServerOptions{BaseRouter: mux, ErrorHandlerFunc: refuseRequest})
	mux.Handle("GET /metrics", s.config.Metrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { refuseRoute(mux, w, r) })
	served := s.authenticate(mux, s.bound(mux))
	if s.config.Console == nil {
		return served
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isAPI(r.URL.Path) {
			served.ServeHTTP(w, r)
		} else {
			s.config.Console.ServeHTTP(w, r)
		}
	})
}

// isAPI tells the addresses of the API from those of the console.
func isAPI(path string) bool {
	return strings.HasPrefix(path, "/api/") || path == "/api" || path == "/metrics" || path == "/healthz" || path == "/readyz"
}

// repeatable are the operations that take an Idempotency-Key.
var repeatable = []string{"AddDevice", "IssueDeviceToken", "SetDevicePsk", "SetDeviceOscore", "AddApp", "IssueAppKey", "AddOperator", "AddToken"}

// sendOnce lets a request that makes something be sent again.
func (s *Server) sendOnce(next StrictHandlerFunc, operation string) StrictHandlerFunc {
	if !slices.Contains(repeatable, operation) {
		return next
	}
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, request any) (any, error) {
		ctx, end, err := s.requests.Begin(ctx, r.Header.Get("Idempotency-Key"), operation, request)
		if err != nil {
			return nil, err
		}
		defer end()
		return next(ctx, w, r, request)
	}
}

// awaitGateways answers a decision when it is in force on the gateways, so that what follows it finds it there.
func (s *Server) awaitGateways(next StrictHandlerFunc, _ string) StrictHandlerFunc {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, request any) (any, error) {
		answer, err := next(ctx, w, r, request)
		if err != nil || r.Method == http.MethodGet {
			return answer, err
		}
		// What was decided is decided, and the answer may hold a token that is shown only now.
		if newest, err := s.newest(ctx); err != nil {
			s.config.Log.Warn("a decision is answered before it is known to be in force", "error", err)
		} else {
			s.config.Rollout.Await(ctx, newest)
		}
		return answer, nil
	}
}

// bound limits the size of a request, and lets only those last that are meant to.
func (s *Server) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size := int64(maxRequestBytes)
		switch r.URL.Path {
		case publishPath:
			if r.Method == http.MethodPost {
				size = fieldgate.MaxDocumentBytes
			}
		case publishAllPath:
			size = catalog.MaxDocumentBytes
			s.postpone(w, publishAllTimeout)
		case streamPath, eventsPath, messagesPath:
			s.unhurried(w, false)
		case importPath:
			size = maxImportBytes
			s.unhurried(w, true)
			// It waits for lines, however long they take, but not once its caller no longer may go on.
			defer context.AfterFunc(r.Context(), func() { http.NewResponseController(w).SetReadDeadline(time.Now()) })()
		}
		if r.ContentLength > size {
			w.Header().Set("Connection", "close") // rather than read what nobody will look at
			writeProblem(w, problemOf(&http.MaxBytesError{Limit: size}))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, size)
		next.ServeHTTP(w, r)
	})
}

// postpone gives a request another time until which it has to be read and answered.
func (s *Server) postpone(w http.ResponseWriter, limit time.Duration) {
	control, end := http.NewResponseController(w), time.Now().Add(limit)
	if err := errors.Join(control.SetReadDeadline(end), control.SetWriteDeadline(end)); err != nil {
		s.config.Log.Warn("a long request will be cut off", "error", err)
	}
}

func (s *Server) unhurried(w http.ResponseWriter, duplex bool) {
	control := http.NewResponseController(w)
	err := control.SetWriteDeadline(time.Time{})
	if duplex && err == nil {
		if err = control.SetReadDeadline(time.Time{}); err == nil {
			err = control.EnableFullDuplex()
		}
	}
	if err != nil {
		s.config.Log.Warn("a long request will be cut off", "error", err)
	}
}

// refuseRoute answers what no operation is for: 405 where the path has other methods, else 404.
func refuseRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if allowed != nil {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		writeProblem(w, newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed", ""))
		return
	}
	writeProblem(w, newProblem(http.StatusNotFound, "not-found", "Not found", "The admin API has no such path."))
}
