package fieldgate

import "time"

// The doors between the two houses, as subjects on the bus and the messages that pass through them. The gateway pulls:
// the control plane's nudges only say that a pull is worth while, so that a lost nudge costs a second, not a decision.
// Requests and answers are JSON unless said otherwise; a failed request is answered with the header HeaderError.
const (
	// SubjectSnapshotChanged: nudge, without content.
	SubjectSnapshotChanged = "fieldgate.snapshot.changed"
	// SubjectSnapshotManifest: request without content, answered by a SnapshotManifest.
	SubjectSnapshotManifest = "fieldgate.snapshot.manifest"
	// SubjectSnapshotContract: ContractRequest, answered by the part's raw bytes with the header HeaderTotal. Where the part is the
	// contract's last and leaves room, the first of More follow it whole, with their sizes in the header HeaderMore.
	SubjectSnapshotContract = "fieldgate.snapshot.contract"

	// SubjectDirectoryChanged: nudge, without content.
	SubjectDirectoryChanged = "fieldgate.directory.changed"
	// SubjectDirectoryChanges: DirectoryRequest, answered by a DirectoryPage.
	SubjectDirectoryChanges = "fieldgate.directory.changes"

	// SubjectOSCOREBlock: OSCOREBlockRequest, answered by an OSCOREBlock.
	SubjectOSCOREBlock = "fieldgate.oscore.block"

	// SubjectTargetsChanged: nudge, without content.
	SubjectTargetsChanged = "fieldgate.targets.changed"
	// SubjectTargets: TargetsRequest, answered by a TargetsPage.
	SubjectTargets = "fieldgate.targets"

	// SubjectGatewayState: GatewayState, sent by each gateway when something in it changes, and each GatewayStateInterval.
	SubjectGatewayState = "fieldgate.gateway.state"

	// SubjectAuditChanged: nudge between control nodes, without content.
	SubjectAuditChanged = "fieldgate.audit.changed"

	// SubjectRecords: batches of Records in the form of EncodeRecords, followed by the node's name. Kept by StreamRecords.
	SubjectRecords = "fieldgate.records."
	// StreamRecords is the JetStream stream that keeps SubjectRecords.
	StreamRecords = "RECORDS"

	// SubjectCommands: what became of the command with an idempotency key, followed by the key's hash. Only gateways write and read it.
	// Kept by StreamCommands.
	SubjectCommands = "fieldgate.commands."
	// StreamCommands is the JetStream stream that keeps SubjectCommands: the newest of each, for as long as the contract says.
	StreamCommands = "COMMANDS"

	// SubjectCaptureOrder: CaptureOrder, from the control plane to all gateways and to its own nodes.
	SubjectCaptureOrder = "fieldgate.capture.order"
	// SubjectCaptured: Captured, from gateways to all nodes of the control plane.
	SubjectCaptured = "fieldgate.capture.exchange"

	// SubjectMQTT: MQTTQuestion to one gateway, answered by an MQTTAnswer; followed by the gateway's name.
	SubjectMQTT = "fieldgate.mqtt.ask."
	// SubjectCoAP: CoAPQuestion to one gateway, answered by a CoAPAnswer; followed by the gateway's name.
	SubjectCoAP = "fieldgate.coap.ask."
	// SubjectMQTTWatch: MQTTWatch, from the control plane to all gateways, every second while an operator watches messages.
	SubjectMQTTWatch = "fieldgate.mqtt.watch"
	// SubjectMQTTHeard: MQTTHeard, from gateways to the control node that ordered it; followed by the MQTTWatch's id.
	SubjectMQTTHeard = "fieldgate.mqtt.heard."

	// SubjectMQTTNodes: what a gateway says to all others of its MQTT sessions; followed by its name, in which "~" stands for ".".
	SubjectMQTTNodes = "fieldgate.mqtt.nodes."
	// SubjectMQTTNode: what a gateway says to one other; followed by that one's name, ".", and its own, as above.
	SubjectMQTTNode = "fieldgate.mqtt.node."
	// SubjectMQTTLog: what happens to persistent sessions and retained messages, in the form of package mqttstore, followed by the name of
	// the gateway that writes it. Only gateways write and read it. Kept by StreamMQTT.
	SubjectMQTTLog = "fieldgate.mqtt.log."
	// StreamMQTT is the JetStream stream that keeps SubjectMQTTLog.
	StreamMQTT = "MQTT"
	// SubjectMQTTCopy: request of one gateway for a piece of another's store, in the form of package mqttstore; followed by the other's name.
	SubjectMQTTCopy = "fieldgate.mqtt.copy."

	// SubjectDeviceRegistration: DeviceRegistration, followed by the device's name in hexadecimal. Kept by StreamDevices.
	SubjectDeviceRegistration = "fieldgate.device.registration."
	// SubjectDeviceCommands: DeviceCommands, likewise.
	SubjectDeviceCommands = "fieldgate.device.commands."
	// StreamDevices is the JetStream stream that keeps both, the newest of each device.
	StreamDevices = "DEVICES"
	// SubjectDeviceAsk: DeviceQuestion to one gateway, answered by a DeviceReply; followed by the gateway's name.
	SubjectDeviceAsk = "fieldgate.device.ask."

	// HeaderTotal is the bus header that gives the whole size of a contract, of which the message is a part.
	HeaderTotal = "Fieldgate-Total"
	// HeaderMore is the bus header that gives the sizes of the contracts that follow, decimal, with spaces between.
	HeaderMore = "Fieldgate-More"
	// HeaderError is the bus header of an answer that is a refusal; its value is a sentence for logs.
	HeaderError = "Fieldgate-Error"
)

// ContractPart is how many bytes of contracts one answer holds at the most; NATS accepts 1 MiB by default.
const ContractPart = 512 << 10

// ContractRequest asks for a part of an encoded contract, from an offset in bytes, and for others in the same answer. Who answers
// may leave these out.
type ContractRequest struct {
	Key    string   `json:"key"`
	Offset int      `json:"offset"`
	More   []string `json:"more,omitempty"` // keys, MaxMoreContracts at the most
}

// MaxMoreContracts is how many further contracts one ContractRequest asks for at the most.
const MaxMoreContracts = 256

// DirectoryRequest asks for the changes after a sequence.
type DirectoryRequest struct {
	After uint64 `json:"after"`
}

// DirectoryPageChanges is how many changes one page holds at the most.
const DirectoryPageChanges = 1000

// DirectoryPage holds changes in the order of their sequence. Where a principal changed more than once, only its newest
// value is there. A gateway that has gone further than Newest, or follows another Installation, begins anew: the database was
// replaced or restored from a backup.
type DirectoryPage struct {
	Installation uint64            `json:"installation"` // names the database, at random
	Newest       uint64            `json:"newest"`       // sequence of the newest change there is
	Changes      []DirectoryChange `json:"changes"`
	More         bool              `json:"more,omitempty"` // another page follows
}

// AccessLogState is how a gateway's access log stands.
type AccessLogState struct {
	Written uint64 `json:"written"` // lines since it was opened
	Dropped uint64 `json:"dropped"` // the disk did not take them
	Problem string `json:"problem,omitempty"`
}

// GatewayStateInterval is how often a gateway says how it stands, when nothing changes.
const GatewayStateInterval = 5 * time.Second

// GatewayState is what a gateway has in force. The control plane waits for it before it calls a decision live.
type GatewayState struct {
	Node      string `json:"node"`
	Epoch     uint64 `json:"epoch"`               // tells one start of the gateway from another; larger than all before it
	NameTaken bool   `json:"nameTaken,omitempty"` // another gateway that calls itself Node was heard within the last seconds
	Snapshot  uint64 `json:"snapshot"`            // version in force
	Directory uint64 `json:"directory"`           // sequence in force
	Targets   uint64 `json:"targets,omitempty"`   // version of the TargetsPage in force
	Problem   string `json:"problem,omitempty"`   // why a newer snapshot is not in force

	Connections map[string]int `json:"connections,omitempty"` // open now, by protocol; of CoAP peers known now
	// Counted since the gateway started.
	RecordsDropped    uint64 `json:"recordsDropped"`              // the bus did not take them for so long that the outbox was full
	MessagesDropped   uint64 `json:"messagesDropped"`             // not delivered to some subscriber: too slow, queue full, expired, too large
	Malformed         uint64 `json:"malformed"`                   // connections and datagrams that broke their protocol
	PropertiesDropped uint64 `json:"propertiesDropped,omitempty"` // MQTT packets that lost properties on their way to a 3.1.1 broker
	Unprojected       uint64 `json:"unprojected,omitempty"`       // messages and answers of which nothing could be taken for those who may not see all

	Denied map[ProblemCode]uint64 `json:"denied,omitempty"` // MQTT messages, wills and topic filters that were refused

	MQTT MQTTState `json:"mqtt,omitzero"`

	CoAP              map[string]CoAPListenerState `json:"coap,omitempty"`              // by the names of CoAPListeners
	ResourceDirectory *ResourceDirectoryState      `json:"resourceDirectory,omitempty"` // nil: there is none
	DTLS              *DTLSState                   `json:"dtls,omitempty"`              // nil: no CoAP over DTLS is listened to
	OSCORE            map[string]uint64            `json:"oscore,omitempty"`            // requests protected by OSCORE since the start, by OSCOREResults

	Upstreams []UpstreamState `json:"upstreams"` // by name; nil: as this start of the gateway said last

	OutboxBytes  uint64    `json:"outboxBytes"`           // Records that wait on the gateway's disk for the bus
	OutboxOldest time.Time `json:"outboxOldest,omitzero"` // when the oldest of them began; zero when none waits

	Certificates []CertificateState `json:"certificates,omitempty"` // of the TLS listeners

	SecretsKey     string `json:"secretsKey,omitempty"`     // name of the key by which it opens pre-shared keys; empty: it has none
	SecretsProblem string `json:"secretsProblem,omitempty"` // why it cannot be read

	AccessLog *AccessLogState `json:"accessLog,omitempty"` // nil: none is written

	Cache CacheState `json:"cache,omitzero"`

	MQTTCluster *MQTTClusterState `json:"mqttCluster,omitempty"` // nil: no other gateway shares the bus
	MQTTLog     *MQTTLogState     `json:"mqttLog,omitempty"`     // nil: the gateway shares no sessions with others
}

// CoAPListeners are the names of the listeners that a gateway may have for CoAP. WebSockets of plain and secure HTTP are one.
var CoAPListeners = []string{"coap", "coap-on-ramp", "coaps", "coap-tcp", "coaps-tcp", "coap-ws"}

// CoAPListenerState is how one CoAP listener of a gateway stands. What is not now is counted since it started.
type CoAPListenerState struct {
	Address       string `json:"address,omitempty"` // empty: those of HTTP
	Peers         int    `json:"peers"`             // known now; of connections open
	Observations  int    `json:"observations"`      // now
	TransferBytes int    `json:"transferBytes"`     // that bodies in blocks take now
	Received      uint64 `json:"received"`          // messages
	Sent          uint64 `json:"sent"`              // messages
	Malformed     uint64 `json:"malformed"`         // of those received
	Duplicates    uint64 `json:"duplicates"`        // of those received
	Retransmitted uint64 `json:"retransmitted"`
	Refused       uint64 `json:"refused"`   // requests answered 5.03, and connections closed, because a limit was reached
	Limited       uint64 `json:"limited"`   // answers cut down, or challenged, for peers whose address is not verified
	Uploads       uint64 `json:"uploads"`   // bodies that peers have begun to send in blocks
	Downloads     uint64 `json:"downloads"` // bodies that were kept for peers to fetch in blocks
}

// ResourceDirectoryState is how a gateway's resource directory stands. Registered and Waiting are of all gateways of the bus, as this one
// knows them now.
type ResourceDirectoryState struct {
	Registered int `json:"registered"` // devices
	Waiting    int `json:"waiting"`    // commands that have not been sent
	// Commands counts, since the gateway started, what came to each state: queued, sent, answered, rejected and unanswered at this gateway,
	// expired at all of the bus.
	Commands map[DeviceCommandState]uint64 `json:"commands"`
}

// DTLSState is how a gateway stands with CoAP clients that come by DTLS. All but Sessions and Unfinished is counted since it started.
type DTLSState struct {
	Sessions   int               `json:"sessions"`
	Unfinished int               `json:"unfinished"`        // handshakes
	Handshakes uint64            `json:"handshakes"`        // that were finished
	Resumed    uint64            `json:"resumed"`           // of these: by clients that resumed an earlier session
	Refused    map[string]uint64 `json:"refused,omitempty"` // handshakes, by the reasons of DTLSRefusals
	Discarded  uint64            `json:"discarded"`         // datagrams of nobody who is known, and forged or repeated records
	Moved      uint64            `json:"moved"`             // sessions that went on from another address
	Expired    uint64            `json:"expired"`           // sessions that were silent for too long
	Evicted    uint64            `json:"evicted"`           // sessions that had to make room
}

// DTLSRefusals are why a DTLS handshake may be refused.
var DTLSRefusals = []string{"full", "source", "unknown", "key", "certificate", "owner", "timeout", "other"}

// OSCOREResults are what may come of a request that is protected by OSCORE: it is opened, or refused (RFC 8613 section 8.2), or has to come again with
// an Echo value.
var OSCOREResults = []string{"opened", "malformed", "unknown", "replayed", "forged", "not-ready", "challenged"}

// MQTTClusterState is how a gateway stands with those that it is one MQTT broker with. Messages are counted since it started.
type MQTTClusterState struct {
	Nodes     int    `json:"nodes"`   // that live, this one included
	Filters   int    `json:"filters"` // of topics that others want to hear, once for each that does
	Sent      uint64 `json:"sent"`    // messages, once for each node that they went to
	Received  uint64 `json:"received"`
	Lost      uint64 `json:"lost"`      // messages that a node did not get: it was too slow, away, or dead
	Repeated  uint64 `json:"repeated"`  // times that packets were sent again, because no acknowledgement came
	Malformed uint64 `json:"malformed"` // packets of others that could not be read
}

// MQTTState is how a gateway's own MQTT broker stands.
type MQTTState struct {
	RefusedSource     uint64 `json:"refusedSource,omitempty"`     // connections of addresses that have, or open, too many
	RefusedRate       uint64 `json:"refusedRate,omitempty"`       // connections beyond those that may be opened in a second
	Throttled         int64  `json:"throttled,omitempty"`         // connections that are not read now, as they have sent more than they may
	ThrottledMessages uint64 `json:"throttledMessages,omitempty"` // times that this happened for too many messages
	ThrottledBytes    uint64 `json:"throttledBytes,omitempty"`    // and for too many bytes
	StoreProblem      string `json:"storeProblem,omitempty"`      // why its store refuses messages now
}

// MQTTLogState is how far a gateway has come that shares persistent MQTT sessions and retained messages with others.
type MQTTLogState struct {
	Applied uint64 `json:"applied"`           // sequence of StreamMQTT
	Behind  uint64 `json:"behind,omitempty"`  // entries of it that it had not applied when it looked last
	Joined  bool   `json:"joined,omitempty"`  // it has caught up, and serves persistent sessions
	Problem string `json:"problem,omitempty"` // why it does not come on
}

// CacheState is what a gateway's cache of answers has done since it started, and what is in it.
type CacheState struct {
	Hits        uint64 `json:"hits,omitempty"`        // requests that it answered, with fresh answers and stale ones
	Stale       uint64 `json:"stale,omitempty"`       // of Hits: while the service was asked whether the answer still holds
	Misses      uint64 `json:"misses,omitempty"`      // requests that might have been answered from it and went to a service
	Revalidated uint64 `json:"revalidated,omitempty"` // answers that a service found to hold still
	Evicted     uint64 `json:"evicted,omitempty"`     // answers that had to make room
	Entries     int    `json:"entries,omitempty"`     // answers stored now
	Bytes       int    `json:"bytes,omitempty"`       // that they take
}

// CertificateSource is where a certificate comes from.
type CertificateSource string

const (
	CertificateFile     CertificateSource = "file"
	CertificateInternal CertificateSource = "internal-ca" // the gateway's own authority
	CertificateACME     CertificateSource = "acme"
)

// CertificateState is one certificate of a gateway.
type CertificateState struct {
	Names     []string          `json:"names,omitempty"` // host names and addresses that it is for
	Source    CertificateSource `json:"source"`
	File      string            `json:"file,omitempty"` // path on the gateway, where the source is a file
	NotBefore time.Time         `json:"notBefore,omitzero"`
	NotAfter  time.Time         `json:"notAfter,omitzero"` // zero: there is no certificate yet
	Problem   string            `json:"problem,omitempty"` // why it was not replaced
}
