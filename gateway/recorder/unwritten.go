package recorder

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"fieldgate"
)

// unwritten has a second copy of the Records that are not in the outbox yet, in a file that is mapped into memory: what stands
// there outlives the process without a system call for each Record. It has two halves. One takes in Records, while those of
// the other one are written to the outbox.
//
// A half begins with its head: how many bytes of entries there are, the epoch, the number of the first Record. An entry is the
// length of a Record, its checksum, and the Record; or, with foldMark in its length, one more exchange that a Record before stands for. The length of all entries is stored last, so that a Record that a kill
// cut does not count; what a power cut left of the pages is told by the checksums. A nil one, of a disk that has no room for
// the file, keeps nothing.
type unwritten struct {
	memory []byte
	half   int  // that takes in
	full   bool // its later Records are in the buffer only
}

const (
	unwrittenName = "unwritten"
	halfBytes     = 2 << 20 // some 10,000 Records; more do not come in one interval
	halfHead      = 4 + 8 + 8
	entryHead     = 4 + 4
	maxEntry      = 16 << 10 // a Record with the longest texts is smaller
	foldMark      = 1 << 31
	foldBytes     = 4 + 8 + 8 + 8 // index, duration, bytes in and out
)

// openUnwritten maps the file, and gives the Records that an earlier run left in it. They are kept there until begin.
func openUnwritten(folder, node string) (u *unwritten, left []fieldgate.RecordBatch, err error) {
	file, err := os.OpenFile(filepath.Join(folder, unwrittenName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	// Allocated now, because a full disk would later end the process by a signal.
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, 2*halfBytes); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	memory, err := syscall.Mmap(int(file.Fd()), 0, 2*halfBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	u = &unwritten{memory: memory}
	for half := range 2 {
		if batch := u.read(half, node); len(batch.Records) > 0 {
			left = append(left, batch)
		}
	}
	if len(left) == 2 && left[1].First < left[0].First {
		left[0], left[1] = left[1], left[0]
	}
	return u, left, nil
}

func (u *unwritten) bytes(half int) []byte { return u.memory[half*halfBytes : (half+1)*halfBytes] }

// read gives the Records of a half, up to the first entry that is not as it was written.
func (u *unwritten) read(half int, node string) fieldgate.RecordBatch {
	memory := u.bytes(half)
	used := binary.LittleEndian.Uint32(memory)
	batch := fieldgate.RecordBatch{Node: node, Epoch: binary.LittleEndian.Uint64(memory[4:]), First: binary.LittleEndian.Uint64(memory[12:])}
	entries := memory[halfHead:]
	entries = entries[:min(int(used), len(entries))]
	for len(entries) > entryHead {
		length := binary.LittleEndian.Uint32(entries)
		folded := length&foldMark != 0
		length &^= foldMark
		if length > maxEntry || int(length) > len(entries)-entryHead {
			break
		}
		entry := entries[entryHead : entryHead+length]
		if crc32.Checksum(entry, castagnoli) != binary.LittleEndian.Uint32(entries[4:]) {
			break
		}
		entries = entries[entryHead+length:]
		if folded {
			if !readFold(entry, batch.Records) {
				break
			}
			continue
		}
		record, err := fieldgate.DecodeRecord(entry)
		if err != nil {
			break
		}
		batch.Records = append(batch.Records, record)
	}
	return batch
}

// readFold adds the exchange of an entry to the Record that stands for it.
func readFold(entry []byte, records []fieldgate.Record) bool {
	if len(entry) != foldBytes {
		return false
	}
	index := binary.LittleEndian.Uint32(entry)
	if int(index) >= len(records) || len(records[index].Others) >= fieldgate.MaxRecordOthers {
		return false
	}
	fold(&records[index], time.Duration(binary.LittleEndian.Uint64(entry[4:])), binary.LittleEndian.Uint64(entry[12:]), binary.LittleEndian.Uint64(entry[20:]))
	return true
}

// begin empties both halves for the Records of an epoch.
func (u *unwritten) begin(epoch uint64) {
	if u == nil {
		return
	}
	for half := range 2 {
		u.clear(half)
		binary.LittleEndian.PutUint64(u.bytes(half)[4:], epoch)
	}
	u.turn(1)
}

// turn lets the other half, which is empty, take in Records; the first one has this number.
func (u *unwritten) turn(first uint64) {
	if u == nil {
		return
	}
	u.half, u.full = 1-u.half, false
	binary.LittleEndian.PutUint64(u.bytes(u.half)[12:], first)
}

// written empties the half that does not take in Records.
func (u *unwritten) written() {
	if u != nil {
		u.clear(1 - u.half)
	}
}

func (u *unwritten) clear(half int) { binary.LittleEndian.PutUint32(u.bytes(half), 0) }

// add takes in a Record, unless the half is full.
func (u *unwritten) add(record *fieldgate.Record) {
	if u == nil {
		return
	}
	if room := u.room(); room != nil {
		u.enter(fieldgate.AppendRecord(room, record), 0)
	}
}

// fold takes in that the Record of an index, counted from the first of the half, stands for one more exchange.
func (u *unwritten) fold(index int, duration time.Duration, bytesIn, bytesOut uint64) {
	if u == nil {
		return
	}
	if room := u.room(); room != nil {
		entry := binary.LittleEndian.AppendUint32(room, uint32(index))
		entry = binary.LittleEndian.AppendUint64(entry, uint64(duration))
		entry = binary.LittleEndian.AppendUint64(entry, bytesIn)
		u.enter(binary.LittleEndian.AppendUint64(entry, bytesOut), foldMark)
	}
}

// room is where the next entry may stand; nil when there is none any more.
func (u *unwritten) room() []byte {
	memory := u.bytes(u.half)
	start := halfHead + int(binary.LittleEndian.Uint32(memory)) + entryHead
	if u.full || start+maxEntry > len(memory) {
		u.full = true
		return nil
	}
	return memory[start : start : start+maxEntry]
}

// enter counts an entry that stands in the room.
func (u *unwritten) enter(entry []byte, mark uint32) {
	memory := u.bytes(u.half)
	used := binary.LittleEndian.Uint32(memory)
	head := memory[halfHead+used:]
	binary.LittleEndian.PutUint32(head, uint32(len(entry))|mark)
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(entry, castagnoli))
	binary.LittleEndian.PutUint32(memory, used+entryHead+uint32(len(entry)))
}

func (u *unwritten) close() {
	if u != nil {
		syscall.Munmap(u.memory)
	}
}
