package fieldgate

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Bounds of what is kept of a device that registers with the resource directory, and of the commands that wait for it.
const (
	MaxDeviceLinks        = 64       // that a registration lists
	MaxDeviceLinkBytes    = 8 << 10  // of them together, in link format
	MaxDeviceAttributes   = 16       // of a registration besides those that the directory reads itself
	MaxDeviceCommands     = 16       // that wait
	MaxDeviceCommandBytes = 64 << 10 // of the bodies of those that wait
	MaxDeviceAnswer       = 1 << 10  // bytes that are kept of an answer
	KeptDeviceCommands    = 20       // that have ended

	MinDeviceLifetime     = time.Minute
	MaxDeviceLifetime     = 30 * 24 * time.Hour
	DefaultDeviceLifetime = 90_000 * time.Second // RFC 9176 section 5
	MaxDeviceQueue        = 7 * 24 * time.Hour   // that a command waits
)

// DeviceRegistration is what a device has registered with the resource directory of a gateway (RFC 9176), and where it was heard last.
type DeviceRegistration struct {
	Device     string         `json:"device"` // its id, and endpoint name
	Sector     string         `json:"sector,omitempty"`
	Lifetime   time.Duration  `json:"lifetime"`
	Left       time.Duration  `json:"left"`             // of the lifetime, when this was written: no two clocks are ever compared
	Sleeps     bool           `json:"sleeps,omitempty"` // it is reached only after it was heard (queue mode)
	Attributes []string       `json:"attributes,omitempty"`
	Links      string         `json:"links,omitempty"` // link format (RFC 6690)
	Base       netip.AddrPort `json:"base,omitzero"`   // where it serves, if it is not where it was heard
	Since      time.Time      `json:"since"`           // of the registration, not of its updates
	Updated    time.Time      `json:"updated"`

	Node      string         `json:"node"`      // gateway that heard it last
	Epoch     uint64         `json:"epoch"`     // of that gateway
	Transport string         `json:"transport"` // listener: coap, coaps, coap-tcp and so on
	Address   netip.AddrPort `json:"address"`   // of the device
	Peer      netip.AddrPort `json:"peer"`      // as the listener names it; of a session only as long as Epoch lasts
}

// DeviceCommandState is how far a command has come.
type DeviceCommandState string

const (
	CommandQueued     DeviceCommandState = "queued"
	CommandSent       DeviceCommandState = "sent"       // and not answered yet
	CommandAnswered   DeviceCommandState = "answered"   // Code says how
	CommandRejected   DeviceCommandState = "rejected"   // with a Reset, or an answer that cannot be read
	CommandUnanswered DeviceCommandState = "unanswered" // it may have been carried out, and is not sent again
	CommandExpired    DeviceCommandState = "expired"    // before the device was heard
	CommandCancelled  DeviceCommandState = "cancelled"
)

// Waiting says that the command is still to be carried out, or under way.
func (s DeviceCommandState) Waiting() bool { return s == CommandQueued || s == CommandSent }

// DeviceRequest is a request to a device.
type DeviceRequest struct {
	Method      string        `json:"method"` // GET, POST and so on, FETCH, IPATCH
	Path        string        `json:"path"`
	Query       string        `json:"query,omitempty"`
	ContentType string        `json:"contentType,omitempty"`
	Accept      string        `json:"accept,omitempty"` // media type; empty: whatever the device has
	Body        []byte        `json:"body,omitempty"`
	Idempotent  bool          `json:"idempotent,omitempty"` // it may be sent again when no answer came
	Timeout     time.Duration `json:"timeout"`
}

// DeviceAnswer is what a device has answered.
type DeviceAnswer struct {
	Code        string        `json:"code"`   // 2.05
	Status      int           `json:"status"` // in HTTP's numbers
	ContentType string        `json:"contentType,omitempty"`
	Body        []byte        `json:"body,omitempty"`
	ETag        string        `json:"etag,omitempty"`
	MaxAge      time.Duration `json:"maxAge,omitempty"`
	Location    string        `json:"location,omitempty"`
}

// DeviceCommand is a request that waits for a device that sleeps, and what has become of it.
type DeviceCommand struct {
	ID        string             `json:"id"`
	By        string             `json:"by"`                  // who asked: "app a1", "operator ann"
	Operation string             `json:"operation,omitempty"` // API, version and operation; empty: none
	Request   DeviceRequest      `json:"request"`             // without the body once it has ended
	Queued    time.Time          `json:"queued"`
	Left      time.Duration      `json:"left"` // that it may wait, when this was written
	State     DeviceCommandState `json:"state"`
	Attempts  int                `json:"attempts,omitempty"`
	SentAt    time.Duration      `json:"sentAt,omitempty"` // Left, when it was sent
	Node      string             `json:"node,omitempty"`   // that sends it
	Epoch     uint64             `json:"epoch,omitempty"`  // of that node
	Changed   time.Time          `json:"changed"`
	Answer    *DeviceAnswer      `json:"answer,omitempty"` // its body cut to MaxDeviceAnswer
	Bytes     int                `json:"bytes,omitempty"`  // of the answer's body
}

// DeviceCommands are the commands of one device, in the order in which they came.
type DeviceCommands struct {
	Commands []DeviceCommand `json:"commands"`
}

// NewDeviceCommand makes a command that waits for at most wait.
func NewDeviceCommand(by, operation string, request DeviceRequest, wait time.Duration) DeviceCommand {
	now := time.Now()
	if request.Timeout <= 0 {
		request.Timeout = DefaultTimeout
	}
	return DeviceCommand{ID: rand.Text()[:16], By: by, Operation: operation, Request: request, Queued: now, Left: wait, State: CommandQueued, Changed: now}
}

// ErrCommandsFull says that as many commands, or bytes, wait for a device as may.
var ErrCommandsFull = errors.New("too many commands wait for the device")

// Add puts a command behind those that wait.
func (d *DeviceCommands) Add(c DeviceCommand) error {
	waiting, bytes := 1, len(c.Request.Body)
	for i := range d.Commands {
		if d.Commands[i].State.Waiting() {
			waiting, bytes = waiting+1, bytes+len(d.Commands[i].Request.Body)
		}
	}
	if waiting > MaxDeviceCommands || bytes > MaxDeviceCommandBytes {
		return ErrCommandsFull
	}
	c.State = CommandQueued
	d.Commands = append(d.Commands, c)
	return nil
}

// Pass lets time pass since this was written: commands expire.
func (d *DeviceCommands) Pass(age time.Duration, now time.Time) {
	for i := range d.Commands {
		c := &d.Commands[i]
		if c.Left -= age; c.Left <= 0 && c.State == CommandQueued {
			c.End(CommandExpired, now)
		}
	}
	d.forget()
}

// End says what has become of a command. Its body is not needed any more.
func (c *DeviceCommand) End(state DeviceCommandState, now time.Time) {
	c.State, c.Changed, c.Request.Body = state, now, nil
}

// Unanswered says that no answer came: only what does no more if it comes twice is sent again.
func (c *DeviceCommand) Unanswered(now time.Time) {
	switch {
	case !c.Request.Idempotent:
		c.End(CommandUnanswered, now)
	case c.Left <= 0:
		c.End(CommandExpired, now)
	default:
		c.State, c.Changed = CommandQueued, now
	}
}

// forget drops the oldest of those that have ended.
func (d *DeviceCommands) forget() {
	ended := 0
	for i := range d.Commands {
		if !d.Commands[i].State.Waiting() {
			ended++
		}
	}
	d.Commands = slices.DeleteFunc(d.Commands, func(c DeviceCommand) bool {
		drop := ended > KeptDeviceCommands && !c.State.Waiting()
		if drop {
			ended--
		}
		return drop
	})
}

// Find is the command of an id; nil if there is none.
func (d *DeviceCommands) Find(id string) *DeviceCommand {
	for i := range d.Commands {
		if d.Commands[i].ID == id {
			return &d.Commands[i]
		}
	}
	return nil
}

// First is the command that is to be carried out before the others; nil: none waits.
func (d *DeviceCommands) First() *DeviceCommand {
	for i := range d.Commands {
		if d.Commands[i].State.Waiting() {
			return &d.Commands[i]
		}
	}
	return nil
}

// DeviceQuestion asks the gateway that heard a device last to carry a request out there, now; or tells it that another gateway has just
// heard the device.
type DeviceQuestion struct {
	Device  string        `json:"device"`
	Heard   bool          `json:"heard,omitempty"` // there is no Request
	Request DeviceRequest `json:"request,omitzero"`
}

// DeviceReply is the answer to a DeviceQuestion: one of the two, or nothing to one that says Heard.
type DeviceReply struct {
	Answer  *DeviceAnswer `json:"answer,omitempty"`
	Problem *Problem      `json:"problem,omitempty"`
}
