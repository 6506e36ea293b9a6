package fieldgate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// Findings are observations about one exchange, as bits.
type Findings uint32

const (
	FindingUndocumented    Findings = 1 << iota // passed by a pass-through API: no contract explains it
	FindingUnmatched                            // no contract and no pass-through API: refused
	FindingInvalidRequest                       // payload or parameter breaks the contract
	FindingInvalidResponse                      // the upstream's answer breaks the contract
	FindingShadowed                             // invalid, but let through because the contract says on-invalid: shadow
	FindingUnauthenticated                      // no or no valid credential
	FindingForbidden                            // identified, but may not
	FindingNotOwner                             // another device's path or topic
	FindingQuarantined
	FindingRevoked
	FindingRateLimited
	FindingDeprecated // served by a deprecated version
	FindingRetired    // asked of a retired version
	FindingUpstream   // the upstream failed
	FindingMalformed  // broke its protocol
	FindingDropped    // a message was not delivered to some subscriber

	findingsEnd
)

var findingNames = []string{"undocumented", "unmatched", "invalid-request", "invalid-response", "shadowed", "unauthenticated", "forbidden",
	"not-owner", "quarantined", "revoked", "rate-limited", "deprecated", "retired", "upstream", "malformed", "dropped"}

// Names lists the findings that are set, in a fixed order.
func (f Findings) Names() []string {
	var names []string
	for i, name := range findingNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// ParseFinding is the finding of that name; 0 when there is none.
func ParseFinding(name string) Findings {
	for i, n := range findingNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// Record is what one exchange leaves behind, or several alike that a busy caller made within a moment (Others). It holds no payload and
// no secret.
type Record struct {
	Time     time.Time     // when the exchange began
	Duration time.Duration // until its answer was handed to the network
	Upstream time.Duration // part of Duration spent waiting for the upstream

	Protocol Protocol
	Method   Method
	Status   int         // in HTTP's numbers, whatever the protocol
	Problem  ProblemCode // empty when the exchange passed
	Findings Findings

	API       string // empty when nothing matched
	Version   string
	Operation string
	Route     string // path or topic as it came, at most MaxRecordRoute bytes, where no contract's template explains it
	Detail    string // where and what an invalid payload breaks ("/temp /properties/temp/maximum"), or how a request breaks its protocol, at most MaxRecordDetail bytes

	Stages  [Stages]StageTime // by Stage
	Decided Stage             // that refused; StageNone when the exchange passed, or was refused before its first stage
	Rule    string            // what refused, in the contract's words ("rate 20/min per principal", "scope telemetry.read"), at most MaxRecordRule bytes

	Principal string
	Kind      PrincipalKind
	Model     string
	Firmware  string
	Source    netip.Addr // of the caller; the zero value when unknown
	BytesIn   uint64     // payload bytes received from the caller, in all exchanges that it stands for
	BytesOut  uint64     // payload bytes sent to the caller, likewise
	Exchange  uint64     // number of the exchange in its node's epoch; the three together are the instance that problem details name

	// Others are the durations, in microseconds, of further exchanges that the Record stands for, at most MaxRecordOthers. They differ
	// from it in nothing but time, bytes and number, and none of them was refused.
	Others []uint32
}

// Exchanges is how many exchanges the Record stands for.
func (r *Record) Exchanges() uint64 { return 1 + uint64(len(r.Others)) }

// Bounds of a Record's texts, in bytes, and of a batch.
const (
	MaxRecordRoute    = 256
	MaxRecordDetail   = 256
	MaxRecordRule     = 128
	MaxRecordOthers   = 63
	MaxBatchRecords   = 1024 // a batch of the longest records stays below the 1 MiB that NATS takes
	maxBatchStrings   = 13 * MaxBatchRecords
	maxBatchString    = 1024
	recordFormVersion = 3
)

// Forms of older gateways, which did not tell about stages, or had a Record for each exchange. They are read, because batches of them
// may wait in a stream when a control plane is upgraded.
const (
	recordFormStageless = 1
	recordFormSingle    = 2
)

// RecordBatch is a run of Records of one node. Node, Epoch and First identify it for exactly-once ingestion: within an epoch
// (one start of the node) Records are numbered from 1 without gaps.
type RecordBatch struct {
	Node    string
	Epoch   uint64
	First   uint64
	Records []Record
}

// EncodeRecords appends the compact form of a batch: a version byte, the header, a table of the distinct texts, and the
// Records as variable-length integers with texts by number.
func EncodeRecords(dst []byte, batch *RecordBatch) []byte {
	table := textTable{index: make(map[string]uint64, 64)}
	rows := make([]byte, 0, 32*len(batch.Records))
	var base int64
	for i := range batch.Records {
		r := &batch.Records[i]
		rows = r.appendNumbers(rows, base)
		base = r.Time.UnixNano()
		for column, text := range r.texts() {
			rows = binary.AppendUvarint(rows, table.number(column, text))
		}
		rows = binary.AppendUvarint(rows, table.source(r.Source))
		rows = binary.AppendUvarint(rows, table.number(ruleColumn, r.Rule))
		rows = binary.AppendUvarint(rows, uint64(len(r.Others)))
		for _, micros := range r.Others {
			rows = binary.AppendUvarint(rows, uint64(micros))
		}
	}
	dst = append(dst, recordFormVersion)
	dst = appendText(dst, batch.Node)
	dst = binary.AppendUvarint(dst, batch.Epoch)
	dst = binary.AppendUvarint(dst, batch.First)
	dst = binary.AppendUvarint(dst, uint64(len(table.texts)))
	for _, text := range table.texts {
		dst = appendText(dst, text)
	}
	dst = binary.AppendUvarint(dst, uint64(len(batch.Records)))
	return append(dst, rows...)
}

// appendNumbers appends all but the texts; the time counts from base, in nanoseconds since 1970.
func (r *Record) appendNumbers(dst []byte, base int64) []byte {
	dst = binary.AppendVarint(dst, r.Time.UnixNano()-base)
	dst = binary.AppendUvarint(dst, r.Exchange)
	dst = binary.AppendUvarint(dst, uint64(r.Duration))
	dst = binary.AppendUvarint(dst, uint64(r.Upstream))
	dst = append(dst, byte(r.Protocol), byte(r.Method))
	dst = binary.AppendUvarint(dst, uint64(r.Status))
	dst = binary.AppendUvarint(dst, uint64(r.Findings))
	dst = binary.AppendUvarint(dst, r.BytesIn)
	dst = binary.AppendUvarint(dst, r.BytesOut)
	return r.appendStages(dst)
}

// AppendRecord appends the form of a Record that stands for one exchange, which needs no memory besides dst. It is for files of the
// same program.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = r.appendNumbers(dst, 0)
	for _, text := range [...]string{string(r.Problem), r.API, r.Version, r.Operation, r.Route, r.Detail, r.Principal, string(r.Kind),
		r.Model, r.Firmware, r.Rule} {
		dst = appendText(dst, text[:min(len(text), maxBatchString)])
	}
	length := len(dst)
	dst = append(dst, 0)
	if r.Source.IsValid() {
		dst = r.Source.AppendTo(dst)
		dst[length] = byte(len(dst) - length - 1)
	}
	return dst
}

// DecodeRecord reads what AppendRecord wrote.
func DecodeRecord(encoded []byte) (r Record, err error) {
	d := recordReader{rest: encoded}
	r.Time = time.Unix(0, d.numbers(&r)).UTC()
	d.stages(&r)
	var texts [recordTexts]string
	for i := range texts {
		if i != sourceColumn {
			texts[i] = d.text()
		}
	}
	r.setTexts(&texts)
	if r.setSource(d.text()) != nil || d.bad || len(d.rest) != 0 { // the source comes last
		return Record{}, errRecords
	}
	return r, nil
}

// appendStages appends which stages ran and which of these were timed, as bits, the times, and which stage decided.
func (r *Record) appendStages(dst []byte) []byte {
	var ran, timed byte
	for stage, t := range r.Stages {
		if t.Ran() {
			ran |= 1 << stage
		}
		if t.Timed() {
			timed |= 1 << stage
		}
	}
	dst = append(dst, ran, timed)
	for _, t := range r.Stages {
		if t.Timed() {
			dst = binary.AppendUvarint(dst, uint64(t))
		}
	}
	return append(dst, byte(r.Decided))
}

// texts lists the text fields in the order of the wire form, up to the source, which is an address; the rule follows it.
func (r *Record) texts() [sourceColumn]string {
	return [...]string{string(r.Problem), r.API, r.Version, r.Operation, r.Route, r.Detail, r.Principal, string(r.Kind), r.Model, r.Firmware}
}

// How many texts a Record has on the wire, in either form, and the places of some.
const (
	recordTexts          = 12
	recordTextsStageless = 11

	sourceColumn = 10
	ruleColumn   = 11
)

// setTexts is the inverse of texts; the source is left to the caller.
func (r *Record) setTexts(t *[recordTexts]string) {
	r.Problem, r.API, r.Version, r.Operation, r.Route, r.Detail = ProblemCode(t[0]), t[1], t[2], t[3], t[4], t[5]
	r.Principal, r.Kind, r.Model, r.Firmware, r.Rule = t[6], PrincipalKind(t[7]), t[8], t[9], t[ruleColumn]
}

func (r *Record) setSource(text string) (err error) {
	if text != "" {
		r.Source, err = netip.ParseAddr(text)
	}
	return err
}

// textTable numbers the distinct texts of a batch.
type textTable struct {
	index map[string]uint64
	texts []string

	// Most Records have the texts of the one before: comparing with them costs less than looking them up.
	before  [recordTexts]string
	numbers [recordTexts]uint64 // of before
	address netip.Addr          // whose text before has
}

// number is the text's place in the table, counted from 1; 0 is the empty text.
func (t *textTable) number(column int, text string) uint64 {
	if text == "" {
		return 0
	}
	if text == t.before[column] {
		return t.numbers[column]
	}
	t.before[column] = text
	if len(text) > maxBatchString {
		text = text[:maxBatchString]
	}
	n, ok := t.index[text]
	if !ok {
		t.texts = append(t.texts, text)
		n = uint64(len(t.texts))
		t.index[text] = n
	}
	t.numbers[column] = n
	return n
}

// source is number of an address.
func (t *textTable) source(address netip.Addr) uint64 {
	if !address.IsValid() {
		return 0
	}
	if address != t.address {
		t.number(sourceColumn, address.String())
		t.address = address
	}
	return t.numbers[sourceColumn]
}

func appendText(dst []byte, text string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// AppendInstance appends the name of an exchange: node, epoch and the exchange's number in it. Problem details carry it, so
// that a caller's report leads to the Record.
func AppendInstance(dst []byte, node string, epoch, exchange uint64) []byte {
	dst = append(dst, node...)
	dst = append(dst, '-')
	dst = appendBase36(dst, epoch)
	dst = append(dst, '-')
	return appendBase36(dst, exchange)
}

func appendBase36(dst []byte, n uint64) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var buffer [13]byte
	i := len(buffer)
	for {
		i--
		buffer[i] = digits[n%36]
		if n /= 36; n == 0 {
			return append(dst, buffer[i:]...)
		}
	}
}

var errRecords = errors.New("malformed batch of records")

// DecodeRecords reads what EncodeRecords wrote, in this version or one before. Every count is bounded before memory is taken for it.
func DecodeRecords(encoded []byte) (*RecordBatch, error) {
	d := recordReader{rest: encoded}
	form := d.byte()
	if form < recordFormStageless || form > recordFormVersion {
		return nil, fmt.Errorf("%w: form %d is unknown", errRecords, form)
	}
	batch := &RecordBatch{Node: d.text()}
	batch.Epoch, batch.First = d.uint(), d.uint()
	table := make([]string, 1, 1+d.count(maxBatchStrings))
	for len(table) < cap(table) && !d.bad {
		table = append(table, d.text())
	}
	batch.Records = make([]Record, d.count(MaxBatchRecords))
	var base int64
	var texts [recordTexts]string
	var source uint64 // number of the text that address stands in
	var address netip.Addr
	for i := range batch.Records {
		r := &batch.Records[i]
		base += d.numbers(r)
		r.Time = time.Unix(0, base).UTC()
		count := recordTextsStageless
		if form > recordFormStageless {
			d.stages(r)
			count = recordTexts
		}
		for column := range count {
			n := d.uint()
			if n >= uint64(len(table)) {
				return nil, errRecords
			}
			texts[column] = table[n]
			if column == sourceColumn && n != source {
				if r.setSource(table[n]) != nil {
					return nil, errRecords
				}
				source, address = n, r.Source
			}
		}
		r.setTexts(&texts)
		r.Source = address
		if form > recordFormSingle {
			d.others(r)
		}
		if d.bad {
			return nil, errRecords
		}
	}
	if d.bad || len(d.rest) != 0 {
		return nil, errRecords
	}
	return batch, nil
}

type recordReader struct {
	rest []byte
	bad  bool
}

func (d *recordReader) byte() byte {
	if len(d.rest) == 0 {
		d.bad = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *recordReader) uint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 { // as most are
		v := uint64(d.rest[0])
		d.rest = d.rest[1:]
		return v
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// numbers reads what appendNumbers wrote before the stages, and gives the time.
func (d *recordReader) numbers(r *Record) (since int64) {
	since = d.int()
	r.Exchange = d.uint()
	r.Duration, r.Upstream = time.Duration(d.uint()), time.Duration(d.uint())
	r.Protocol, r.Method = Protocol(d.byte()), Method(d.byte())
	r.Status, r.Findings = int(d.uint()), Findings(d.uint())
	r.BytesIn, r.BytesOut = d.uint(), d.uint()
	return since
}

// others reads the durations of further exchanges.
func (d *recordReader) others(r *Record) {
	n := d.count(MaxRecordOthers)
	if n == 0 {
		return
	}
	r.Others = make([]uint32, n)
	for i := range r.Others {
		r.Others[i] = uint32(min(d.uint(), math.MaxUint32))
	}
}

// stages reads what appendStages wrote.
func (d *recordReader) stages(r *Record) {
	ran, timed := d.byte(), d.byte()
	d.bad = d.bad || ran&(1<<StageNone) != 0 || timed&^ran != 0
	for stage := range r.Stages {
		switch bit := byte(1) << stage; {
		case timed&bit != 0:
			t := d.uint()
			d.bad = d.bad || t == 0 || t >= uint64(StageUntimed)
			r.Stages[stage] = StageTime(t)
		case ran&bit != 0:
			r.Stages[stage] = StageUntimed
		}
	}
	r.Decided = Stage(d.byte())
	d.bad = d.bad || r.Decided >= Stages
}

func (d *recordReader) int() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads a number of things that each take at least one byte of what is left.
func (d *recordReader) count(most int) int {
	n := d.uint()
	if n > uint64(most) || n > uint64(len(d.rest)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *recordReader) text() string {
	n := d.count(maxBatchString)
	text := string(d.rest[:n])
	d.rest = d.rest[n:]
	return text
}
