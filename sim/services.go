package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxReading     = 64 << 10 // bytes of a reading
	maxDevices     = 100_000  // whose last reading is kept
	shutdownLimit  = 2 * time.Second
	headerLimit    = 5 * time.Second
	slowAnswer     = 300 * time.Millisecond
	slowShare      = 0.01             // of answers
	failingShare   = 0.005            // of answers
	brokenShare    = 0.01             // of states: they break the contract
	commandShare   = 0.2              // of requests for commands
	upFor          = 40 * time.Second // that the second instance of ingest answers, before it goes away
	awayFor        = 12 * time.Second
	legacyGreeting = `{"ok":true}`
)

// Services are the upstreams of the sample contracts: "ingest", "therapy", "therapy-next", "legacy", "legacy-coap", and, in CoAP, "building". They answer as services do: at
// times slowly, at times with an error, rarely with something that the contract does not say. Of "ingest" there are two instances, of
// which one goes away now and then.
type Services struct {
	log    *slog.Logger
	ingest net.Listener
	second net.Listener // instance of ingest
	legacy net.Listener
	rooms  *building

	mu     sync.Mutex
	random *rand.Rand
	last   map[string]json.RawMessage
	stored uint64
}

// NewServices opens the services on free ports of the loopback address; Run serves them.
func NewServices(seed uint64, log *slog.Logger) (*Services, error) {
	s := &Services{log: log, random: rand.New(rand.NewPCG(seed, 1<<32)), last: make(map[string]json.RawMessage)}
	var err error
	if s.ingest, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	for _, l := range []*net.Listener{&s.second, &s.legacy} {
		if *l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			s.Close()
			return nil, err
		}
	}
	if s.rooms, err = newBuilding(log); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close closes what NewServices opened, for callers that do not come to Run.
func (s *Services) Close() {
	for _, l := range []net.Listener{s.ingest, s.second, s.legacy} {
		if l != nil {
			l.Close()
		}
	}
	if s.rooms != nil {
		ended, end := context.WithCancel(context.Background())
		end()
		_ = s.rooms.run(ended) // which only closes its socket
	}
}

// Addresses are the upstreams' addresses by the names that the contracts use.
func (s *Services) Addresses() map[string][]string {
	legacy := []string{"http://" + s.legacy.Addr().String()}
	return map[string][]string{
		"ingest":       {"http://" + s.ingest.Addr().String(), "http://" + s.second.Addr().String()},
		"therapy":      {"http://" + s.ingest.Addr().String()},
		"therapy-next": {"http://" + s.second.Addr().String()},
		"legacy":       legacy,
		"legacy-coap":  legacy, // the gateway translates
		"building":     {"coap://" + s.rooms.udp.LocalAddr().String()},
	}
}

// HealthPath is where services tell that they are well.
const HealthPath = "/healthz"

// Stored is how many readings were taken in.
func (s *Services) Stored() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

// Run serves until the context ends, and returns when all has ended.
func (s *Services) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make(chan error, 4)
	go func() { failures <- s.comeAndGo(ctx) }()
	go func() { failures <- serveHTTP(ctx, s.ingest, s.ingestHandler()) }()
	go func() { failures <- s.rooms.run(ctx) }()
	go func() { failures <- serveHTTP(ctx, s.legacy, http.HandlerFunc(answerLegacy)) }()
	err := <-failures
	cancel() // one service alone is no upstream
	return errors.Join(err, <-failures, <-failures, <-failures)
}

// comeAndGo is the second instance of ingest, which is away for a while after each time that it was there.
func (s *Services) comeAndGo(ctx context.Context) error {
	l, address := s.second, s.second.Addr().String()
	for {
		here, leave := context.WithTimeout(ctx, upFor)
		err := serveHTTP(here, l, s.ingestHandler())
		leave()
		if err != nil || ctx.Err() != nil {
			return err
		}
		s.log.Info("the second instance of ingest is away", "address", address)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(awayFor):
		}
		if l, err = net.Listen("tcp", address); err != nil {
			return err
		}
	}
}

func serveHTTP(ctx context.Context, l net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerLimit}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
		defer cancel()
		if server.Shutdown(limited) != nil {
			server.Close()
		}
	})
	err := server.Serve(l)
	if stop() {
		return err // it ended by itself
	}
	<-ended
	return nil
}

// chance is true for a share of calls.
func (s *Services) chance(share float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.Float64() < share
}

func (s *Services) ingestHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+HealthPath, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /devices/{device}/telemetry", s.storeReading)
	mux.HandleFunc("GET /drugs/{ward}", answerDrugs)
	mux.HandleFunc("POST /pumps/{pump}/doses", s.answerDose)
	mux.HandleFunc("GET /pumps/{pump}/{what}", answerTherapy)
	mux.HandleFunc("GET /devices/{device}/state", s.answerState)
	mux.HandleFunc("GET /devices/{device}/commands", s.answerCommands)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.chance(slowShare) {
			select {
			case <-time.After(slowAnswer):
			case <-r.Context().Done():
				return
			}
		}
		if s.chance(failingShare) {
			http.Error(w, "the database is away", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Services) storeReading(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReading))
	if err != nil {
		http.Error(w, "the reading is too long", http.StatusRequestEntityTooLarge)
		return
	}
	if !json.Valid(body) {
		http.Error(w, "the reading is not JSON", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.stored++
	if device := r.PathValue("device"); len(s.last) < maxDevices || s.last[device] != nil {
		s.last[device] = body
	}
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Services) answerState(w http.ResponseWriter, r *http.Request) {
	state := map[string]any{"model": "T2", "interval": 300}
	if s.chance(brokenShare) {
		delete(state, "interval") // a release that forgot a member which the contract promises
	}
	s.mu.Lock()
	if last := s.last[r.PathValue("device")]; last != nil {
		state["last"] = last
	}
	s.mu.Unlock()
	answerJSON(w, state)
}

func (s *Services) answerCommands(w http.ResponseWriter, _ *http.Request) {
	if !s.chance(commandShare) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.mu.Lock()
	number := s.random.IntN(1000)
	s.mu.Unlock()
	answerJSON(w, map[string]any{"id": fmt.Sprintf("c-%d", number), "name": "set-interval", "argument": 60 + number})
}

func answerDrugs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("ETag", `"drugs-1"`)
	answerJSON(w, []map[string]any{{"name": "saline", "maxRate": 999}})
}

func (s *Services) answerDose(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	s.stored++
	number := s.stored
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"dose":%d}`, number)
}

func answerTherapy(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Batch", "b-17")
	answerJSON(w, map[string]any{"rate": 12.5, "unit": r.Header.Get("X-Unit")})
}

func answerJSON(w http.ResponseWriter, value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// A client that went away in the middle is its own affair.
	_, _ = w.Write(encoded)
}

func answerLegacy(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxReading)); err != nil {
		http.Error(w, "too long", http.StatusRequestEntityTooLarge)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, legacyGreeting)
}
