package recorder

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"

	"fieldgate"
)

// unwritten has a second copy of the Records that are not in the outbox yet, in a file that is mapped into memory: what stands
// there outlives the process without a system call for each Record. It has two halves. One takes in Records, while those of
// the other one are written to the outbox.
//
// A half begins with its head: how many bytes of entries there are, the epoch, the number of the first Record. An entry is the
// length of a Record, its checksum, and the Record. The length of all entries is stored last, so that a Record that a kill
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
		if length > maxEntry || int(length) > len(entries)-entryHead {
			break
		}
		entry := entries[entryHead : entryHead+length]
		if crc32.Checksum(entry, castagnoli) != binary.LittleEndian.Uint32(entries[4:]) {
			break
		}
		record, err := fieldgate.DecodeRecord(entry)
		if err != nil {
			break
		}
		batch.Records = append(batch.Records, record)
		entries = entries[entryHead+length:]
	}
	return batch
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
	memory := u.bytes(u.half)
	start := halfHead + int(binary.LittleEndian.Uint32(memory))
	if u.full || start+entryHead+maxEntry > len(memory) {
		u.full = true
		return
	}
	entry := fieldgate.AppendRecord(memory[start+entryHead:start+entryHead:start+entryHead+maxEntry], record)
	binary.LittleEndian.PutUint32(memory[start:], uint32(len(entry)))
	binary.LittleEndian.PutUint32(memory[start+4:], crc32.Checksum(entry, castagnoli))
	binary.LittleEndian.PutUint32(memory, uint32(start-halfHead+entryHead+len(entry)))
}

func (u *unwritten) close() {
	if u != nil {
		syscall.Munmap(u.memory)
	}
}
