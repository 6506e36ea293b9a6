package recorder

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fieldgate"
)

func writeEpoch(t *testing.T, folder string, epoch uint64) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, epochName), []byte(strconv.FormatUint(epoch, 10)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openOutboxTest(t testing.TB, folder string, most int64) *outbox {
	t.Helper()
	o, err := openOutbox(folder, most, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// frameOf is the frame of one batch, whose Records are numbered from first.
func frameOf(epoch, first uint64, records int) []byte {
	batch := &fieldgate.RecordBatch{Node: "n1", Epoch: epoch, First: first}
	for i := range records {
		batch.Records = append(batch.Records, fieldgate.Record{Time: time.Unix(1_790_000_000, 0), Exchange: first + uint64(i), Route: strings.Repeat("x", int(first)%200)})
	}
	return appendBatchFrame(nil, batch)
}

// drain takes everything out.
func drain(o *outbox) (batches, records int) {
	for {
		s, some, err := o.next()
		if !some || err != nil {
			return batches, records
		}
		batches++
		records += int(s.records)
		o.done(s)
	}
}

// A file that was cut or damaged anywhere gives all batches before that place, and the files after it are whole.
func TestDamage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		folder := t.TempDir()
		var ends []int
		for range 2 { // runs, of one segment each
			o := openOutboxTest(t, folder, defaultOutboxMaxBytes)
			ends = ends[:0]
			end := 0
			for i := range 10 {
				frame := frameOf(o.epoch, uint64(i*7+1), 7)
				end += len(frame)
				ends = append(ends, end)
				if err := o.append(frame); err != nil {
					t.Fatal(err)
				}
			}
			o.close()
		}
		files, _ := filepath.Glob(filepath.Join(folder, "*"+segmentSuffix))
		if len(files) != 2 {
			t.Fatal(files)
		}
		content, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		place := random.IntN(len(content))
		if random.IntN(2) == 0 {
			content = content[:place]
		} else {
			content[place] ^= byte(1 + random.IntN(255))
		}
		if err := os.WriteFile(files[0], content, 0o600); err != nil {
			t.Fatal(err)
		}
		whole := 0
		for whole < len(ends) && ends[whole] <= place {
			whole++
		}
		o := openOutboxTest(t, folder, defaultOutboxMaxBytes)
		if _, records := drain(o); records != 7*(whole+10) {
			t.Fatalf("seed %d: damaged at %d: %d records, want those of %d batches and of 10 of the other segment", seed, place, records, whole)
		}
		if left, _ := filepath.Glob(filepath.Join(folder, "*"+segmentSuffix)); len(left) != 0 || o.used != 0 {
			t.Fatalf("%v are left, %d bytes", left, o.used)
		}
		o.close()
	}
}

// Whatever a file holds, reading it ends, takes no more memory than the longest batch, and gives only what has its checksum.
func FuzzSegment(f *testing.F) {
	f.Add(frameOf(1, 1, 3))
	f.Add(append(frameOf(1, 1, 3), frameOf(1, 4, 1)...))
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0})
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, content []byte) {
		var body []byte
		for offset := int64(0); ; {
			var err error
			if body, err = readFrame(bytes.NewReader(content), offset, int64(len(content)), body); err != nil {
				if !lasting(err) {
					t.Fatal(err)
				}
				return
			}
			s, _, err := openBody(body)
			if err != nil {
				return
			}
			if s.records > fieldgate.MaxBatchRecords || len(s.id)+len(s.batch)+bodyHead+frameHead != int(s.length) {
				t.Fatalf("%d records, %d bytes", s.records, s.length)
			}
			offset += s.length
		}
	})
}

// A full outbox drops the oldest, counts them exactly, and leaves a gap in the numbers; it stays within its bound.
func TestOutboxBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		folder, c := t.TempDir(), &collector{t: t, away: true}
		r := openTest(t, folder, most, c.sink)
		end := start(r)
		n := 0
		for range 400 {
			add(r, n+1, n+500)
			n += 500
			time.Sleep(2 * batchInterval)
			if bytes := r.Stats().OutboxBytes; bytes > most {
				t.Fatalf("%d bytes", bytes)
			}
		}
		c.set(false)
		time.Sleep(2 * retryInterval)
		add(r, n+1, n+1)
		n++
		end()
		dropped := r.Stats().Dropped
		if dropped == 0 || c.missing != dropped || len(c.got)+int(dropped) != n || c.got[len(c.got)-1] != uint64(n) || c.got[0] == 1 {
			t.Fatalf("%d added, %d came, %d dropped, %d missing, first %d", n, len(c.got), dropped, c.missing, c.got[0])
		}
	})
}

// A batch that was dropped on its way and arrived all the same is not counted as lost.
func TestDroppedOnItsWay(t *testing.T) {
	o := openOutboxTest(t, t.TempDir(), 10_000)
	defer o.close()
	if err := o.append(frameOf(o.epoch, 1, 5)); err != nil {
		t.Fatal(err)
	}
	s, _, _ := o.next()
	for i := range 200 {
		if err := o.append(frameOf(o.epoch, uint64(6+i*5), 5)); err != nil {
			t.Fatal(err)
		}
	}
	before := o.dropped
	o.done(s)
	_, left := drain(o)
	if o.dropped != before-5 || int(o.dropped)+5+left != 201*5 {
		t.Fatalf("%d dropped, then %d; %d left", before, o.dropped, left)
	}
}

// fullDisk makes the kernel answer writes of the next segments with ENOSPC.
func fullDisk(t *testing.T, o *outbox, segments int) (free func()) {
	t.Helper()
	var links []string
	for i := range segments {
		link := filepath.Join(o.folder, fmt.Sprintf("%016x-%08x%s", o.epoch, o.number+1+uint64(i), segmentSuffix))
		if err := os.Symlink("/dev/full", link); err != nil {
			t.Fatal(err)
		}
		links = append(links, link)
	}
	return func() {
		for _, link := range links {
			os.Remove(link)
		}
	}
}

// On a full disk Records go to the bus by way of memory, in order; those that neither takes are counted.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{t: t}
		r := openTest(t, t.TempDir(), 0, c.sink)
		free := fullDisk(t, r.outbox, 1000)
		end := start(r)
		add(r, 1, 20_000)
		time.Sleep(5 * time.Second)
		if c.count() != 20_000 {
			t.Errorf("%d of 20000 came by way of memory", c.count())
		}
		c.set(true)
		add(r, 20_001, 20_001+2*bufferRecords)
		time.Sleep(5 * time.Second)
		add(r, 20_002+2*bufferRecords, 20_001+4*bufferRecords)
		time.Sleep(5 * time.Second)
		if r.Stats().Dropped == 0 {
			t.Error("nothing was dropped")
		}
		free() // there is room again
		time.Sleep(5 * time.Second)
		if n := r.buffered(); n != 0 {
			t.Errorf("%d records are not written", n)
		}
		add(r, 20_002+4*bufferRecords, 20_100+4*bufferRecords)
		time.Sleep(time.Second)
		c.set(false)
		time.Sleep(5 * time.Second)
		end()
		if dropped := r.Stats().Dropped; c.missing != dropped || len(c.got)+int(dropped) != 20_100+4*bufferRecords {
			t.Errorf("%d came, %d dropped, %d missing", len(c.got), dropped, c.missing)
		}
	})
}

// A file that cannot be opened for a while is not given up: a process that is out of file descriptors loses nothing.
func TestUnreadableForAWhile(t *testing.T) {
	folder := t.TempDir()
	o := openOutboxTest(t, folder, defaultOutboxMaxBytes)
	if err := o.append(frameOf(o.epoch, 1, 5)); err != nil {
		t.Fatal(err)
	}
	o.close()
	o = openOutboxTest(t, folder, defaultOutboxMaxBytes)
	defer o.close()
	name := filepath.Join(folder, o.segments[0].name)
	if err := os.Rename(name, name+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(name, name); err != nil { // ELOOP
		t.Fatal(err)
	}
	if _, some, err := o.next(); some || err == nil || len(o.segments) != 1 {
		t.Fatalf("%v %v, %d segments", some, err, len(o.segments))
	}
	if err := os.Rename(name+".away", name); err != nil {
		t.Fatal(err)
	}
	if _, records := drain(o); records != 5 {
		t.Fatalf("%d records", records)
	}
}

// Two gateways do not write to one outbox.
func TestInUse(t *testing.T) {
	folder := t.TempDir()
	o := openOutboxTest(t, folder, 1000)
	if _, err := openOutbox(folder, 1000, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	o.close()
	openOutboxTest(t, folder, 1000).close()
}

// TestKilled kills a process that prints the number of each Record after Add, while batches are written and sent;
// every number that was printed arrives, once and in its order, whatever was sent twice.
func TestKilled(t *testing.T) {
	if folder := os.Getenv("OUTBOX_KILL_TEST"); folder != "" {
		killedChild(t, folder)
	}
	folder := t.TempDir()
	printed := 0
	for round := range 8 {
		command := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		command.Env = append(os.Environ(), "OUTBOX_KILL_TEST="+folder, fmt.Sprint("OUTBOX_FIRST=", printed+1))
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if text, found := strings.CutPrefix(lines.Text(), "taken "); found {
				if printed, err = strconv.Atoi(text); err != nil {
					t.Fatal(err)
				}
				if seen++; seen == 1000+397*round {
					command.Process.Kill()
				}
			}
		}
		command.Wait()
		if seen == 0 {
			t.Fatal("the process took nothing")
		}
		cutArrived(t, folder)
	}
	c := &collector{t: t}
	arrived, err := os.ReadFile(filepath.Join(folder, "arrived"))
	if err != nil {
		t.Fatal(err)
	}
	for len(arrived) > 0 {
		n := int(binary.LittleEndian.Uint32(arrived))
		collect(c, arrived[4:4+n])
		arrived = arrived[4+n:]
	}
	sent := len(c.got)
	r := openTest(t, folder, 0, func(_ context.Context, _ string, batch []byte) error { collect(c, batch); return nil })
	end := start(r)
	for r.Stats().OutboxBytes > 0 {
		time.Sleep(time.Millisecond)
	}
	end()
	// A number that was taken in and not printed is used again by the next run.
	got := make(map[uint64]int)
	for _, exchange := range c.got {
		got[exchange]++
	}
	for i := 1; i <= printed; i++ {
		if n := got[uint64(i)]; n < 1 || n > 2 {
			t.Fatalf("record %d came %d times", i, n)
		}
	}
	if c.missing != 0 || len(c.got) > printed+8 {
		t.Fatalf("%d printed, %d came, %d missing", printed, len(c.got), c.missing)
	}
	t.Logf("%d records, %d of them before the last kill", len(c.got), sent)
}

// cutArrived cuts off what a kill left half written; it was not acknowledged.
func cutArrived(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "arrived")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for len(content)-whole >= 4 {
		n := int(binary.LittleEndian.Uint32(content[whole:]))
		if n > len(content)-whole-4 {
			break
		}
		whole += 4 + n
	}
	if err := os.Truncate(path, int64(whole)); err != nil {
		t.Fatal(err)
	}
}

// collect passes a batch on to a collector under the id that it must have.
func collect(c *collector, encoded []byte) {
	batch, err := fieldgate.DecodeRecords(encoded)
	if err != nil {
		c.t.Fatal(err)
	}
	c.sink(context.Background(), string(appendID(nil, batch)), encoded)
}

func killedChild(t *testing.T, folder string) {
	first, err := strconv.Atoi(os.Getenv("OUTBOX_FIRST"))
	if err != nil {
		t.Fatal(err)
	}
	arrived, err := os.OpenFile(filepath.Join(folder, "arrived"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := openTest(t, folder, 0, func(_ context.Context, _ string, batch []byte) error {
		time.Sleep(time.Duration(rand.IntN(2)) * time.Millisecond)
		_, err := arrived.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(batch))), batch...))
		return err
	})
	go r.Run(t.Context())
	for i := first; ; i++ {
		r.Add(&fieldgate.Record{Time: time.Now(), Exchange: uint64(i)})
		io.WriteString(os.Stdout, "taken "+strconv.Itoa(i)+"\n")
	}
}
