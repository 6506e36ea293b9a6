package sim

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"fieldgate/protocol/coap"
)

const (
	buildingStep  = 2 * time.Second // between two changes by the building itself
	buildingLimit = 1000            // rooms, and observations of them
	coolest       = 18.0            // target by night
	targetRange   = 6               // and by day so much more
)

// building is a service that speaks CoAP: the rooms of room.openapi.yaml, whose targets can be set and observed. Those that are observed it
// changes by itself.
type building struct {
	udp *coap.UDP

	mu       sync.Mutex
	targets  map[string]float64 // by path
	observed map[*coap.Observation]string
}

func newBuilding(log *slog.Logger) (*building, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	b := &building{targets: make(map[string]float64), observed: make(map[*coap.Observation]string)}
	if b.udp, err = coap.NewUDP(conn, coap.Config{}, 1, b.answer, log); err != nil {
		conn.Close()
		return nil, err
	}
	return b, nil
}

func (b *building) answer(request *coap.Request, response *coap.Response) func(context.Context) {
	path := request.Path()
	b.mu.Lock()
	defer b.mu.Unlock()
	target, known := b.targets[path]
	switch request.Code {
	case coap.GET:
		if !known {
			target = coolest
		}
		fill(response, target)
		if request.Registers() && len(b.observed) < buildingLimit {
			o := &coap.Observation{}
			o.Ended = func() {
				b.mu.Lock()
				delete(b.observed, o)
				b.mu.Unlock()
			}
			b.observed[o], response.Observation = path, o
		}
	case coap.PUT:
		wanted, err := strconv.ParseFloat(string(request.Body), 64)
		switch {
		case err != nil:
			response.Code = coap.BadRequest
			return nil
		case !known && len(b.targets) >= buildingLimit:
			response.Code = coap.ServiceUnavailable
			return nil
		case known:
			response.Code = coap.Changed
		default:
			response.Code = coap.Created
		}
		b.targets[path] = wanted
		return func(context.Context) { b.tell(path, wanted) }
	default:
		response.Code = coap.MethodNotAllowed
	}
	return nil
}

func fill(response *coap.Response, target float64) {
	response.Options.AddUint(coap.ContentFormat, coap.JSON)
	response.Body = fmt.Appendf(nil, "%.1f", target)
}

// tell notifies who observes a room.
func (b *building) tell(path string, target float64) {
	b.mu.Lock()
	var hear []*coap.Observation
	for o, observed := range b.observed {
		if observed == path {
			hear = append(hear, o)
		}
	}
	b.mu.Unlock()
	for _, o := range hear {
		response := new(coap.Response)
		fill(response, target)
		b.udp.Notify(o, response)
	}
}

// run serves until the context ends, and returns when all has ended.
func (b *building) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var clock sync.WaitGroup
	clock.Go(func() {
		for step := 1; sleep(ctx, buildingStep, nil); step++ {
			b.change(coolest + float64(step%(2*targetRange))/2)
		}
	})
	err := b.udp.Run(ctx)
	cancel()
	clock.Wait()
	return err
}

// change gives rooms that are observed another target.
func (b *building) change(target float64) {
	b.mu.Lock()
	rooms := make(map[string]bool)
	for _, path := range b.observed {
		rooms[path] = true
		b.targets[path] = target
	}
	b.mu.Unlock()
	for path := range rooms {
		b.tell(path, target)
	}
}
