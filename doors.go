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

	// SubjectCaptureOrder: CaptureOrder, from the control plane to all gateways and to its own nodes.
	SubjectCaptureOrder = "fieldgate.capture.order"
	// SubjectCaptured: Captured, from gateways to all nodes of the control plane.
	SubjectCaptured = "fieldgate.capture.exchange"

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
	RecordsDropped  uint64 `json:"recordsDropped"`  // the bus did not take them for so long that the outbox was full
	MessagesDropped uint64 `json:"messagesDropped"` // not delivered to some subscriber: too slow, queue full, expired, too large
	Malformed       uint64 `json:"malformed"`       // connections and datagrams that broke their protocol

	Upstreams []UpstreamState `json:"upstreams"` // by name; nil: as this start of the gateway said last

	OutboxBytes  uint64    `json:"outboxBytes"`           // Records that wait on the gateway's disk for the bus
	OutboxOldest time.Time `json:"outboxOldest,omitzero"` // when the oldest of them began; zero when none waits

	Certificates []CertificateState `json:"certificates,omitempty"` // of the TLS listeners

	AccessLog *AccessLogState `json:"accessLog,omitempty"` // nil: none is written
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
	Problem   string            `json:"problem,omitempty"` // why it was not replaced, or that it has to be
}
