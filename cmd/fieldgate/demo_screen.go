package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"fieldgate/api"
	"fieldgate/sim"
)

const (
	screenPeriod = time.Second     // between two pictures on a terminal
	linePeriod   = 2 * time.Second // between two lines elsewhere
	rateSeconds  = 5               // that rates look back
)

// watch shows the traffic until the context ends.
func (d *demo) watch(ctx context.Context, nodeEnded <-chan struct{}) error {
	live := isTerminal(d.out)
	period := linePeriod
	if live {
		period = screenPeriod
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	s := screen{out: d.out}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-nodeEnded:
			return errors.New("the node ended; see " + filepath.Join(d.folder, demoLog))
		case <-ticker.C:
		}
		answer, err := d.admin.GetTrafficSummaryWithResponse(ctx, &api.GetTrafficSummaryParams{Seconds: rateSeconds})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if live {
			err = s.draw(d.picture(answer.JSON200))
		} else {
			_, err = fmt.Fprintln(d.out, d.line(answer.JSON200))
		}
		if err != nil {
			return err
		}
	}
}

// screen draws a picture over the last one, below what was printed before.
type screen struct {
	out   interface{ Write([]byte) (int, error) }
	lines int // of the last picture
}

func (s *screen) draw(picture []byte) error {
	lines := strings.Split(strings.TrimSuffix(string(picture), "\n"), "\n")
	if file, ok := s.out.(*os.File); ok {
		if _, height, err := term.GetSize(int(file.Fd())); err == nil && height > 2 && len(lines) >= height {
			rest := len(lines) - height + 2
			lines = append(lines[:height-2], fmt.Sprintf("… %s more; make the terminal higher", plural(rest, "line")))
		}
	}
	var b bytes.Buffer
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.lines) // cursor up (ECMA-48 CUU)
	}
	b.WriteString("\x1b[?7l") // no wrapping, which would break the count of lines
	for _, line := range lines {
		b.WriteString(line)
		b.WriteString("\x1b[K\n") // erase the rest of the line (EL)
	}
	b.WriteString("\x1b[J\x1b[?7h") // erase what a longer picture left (ED)
	s.lines = len(lines)
	_, err := s.out.Write(b.Bytes())
	return err
}

func (d *demo) picture(s *api.TrafficSummary) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s   %.0f exchanges/s   %s stored by the service\n\n", time.Now().Format(time.TimeOnly), s.PerSecond, plural(int64(d.services.Stored()), "reading"))
	coloured := os.Getenv("NO_COLOR") == ""
	draw := func(print func(*table)) {
		t := newTable(&b)
		t.coloured = coloured
		print(t)
		// A buffer takes everything.
		_ = t.flush()
	}
	draw(func(t *table) {
		t.add(boldCells("PROTOCOL", "PER SECOND", "PASSED", "REFUSED", "FAILED", "IN", "OUT")...)
		for _, p := range s.Protocols {
			t.add(protocolRow(&p)...)
		}
	})
	fmt.Fprintln(&b)
	draw(func(t *table) {
		t.add(boldCells("VERDICT OR FINDING", "COUNT", "NEWEST")...)
		countRows(t, s)
	})
	fmt.Fprintf(&b, "\nCounts are of the last %d seconds. Ctrl-C ends the demo.\n", s.Seconds)
	return b.Bytes()
}

func (d *demo) line(s *api.TrafficSummary) string {
	var parts []string
	var passed, refused, failed int64
	for _, p := range s.Protocols {
		parts = append(parts, fmt.Sprintf("%s %.0f/s", p.Protocol, p.PerSecond))
		passed, refused, failed = passed+p.Passed, refused+p.Refused, failed+p.Failed
	}
	var findings []string
	for _, f := range s.Findings {
		findings = append(findings, fmt.Sprintf("%s %d", f.Name, f.Count))
	}
	return fmt.Sprintf("%s  %s  passed %d, refused %d, failed %d  findings: %s", time.Now().Format(time.TimeOnly), strings.Join(parts, ", "), passed, refused, failed,
		dash(strings.Join(findings, ", ")))
}

// printSummary tells what the devices sent and were told, and how the ones that misbehave fared.
func (d *demo) printSummary() {
	fmt.Fprintln(d.out, "\nWhat the devices saw")
	t := newTable(d.out, "PROTOCOL", "SENT", "PASSED", "REFUSED", "FAILED", "UNANSWERED", "RECEIVED")
	for _, protocol := range []sim.Protocol{sim.MQTT, sim.CoAP, sim.HTTP} {
		c := d.fleet.Totals(protocol)
		t.add(cells(string(protocol), fmt.Sprint(c.Sent), fmt.Sprint(c.Passed), fmt.Sprint(c.Refused), fmt.Sprint(c.Failed), fmt.Sprint(c.Unanswered), fmt.Sprint(c.Received))...)
	}
	// What cannot be written here is lost with the terminal.
	_ = t.flush()
	fmt.Fprintf(d.out, "\nThe dashboard observed trackers over CoAP and heard %s.\n\n", plural(int64(d.fleet.Heard()), "position"))
	t = newTable(d.out, "DEVICE", "BEHAVIOUR", "SENT", "VERDICTS")
	for _, report := range d.fleet.Reports() {
		behaviour := string(report.Device.Behaviour)
		if report.Device.ID == outcast && report.Counts.Refused > 0 {
			behaviour = "quarantined"
		}
		if behaviour == string(sim.Regular) || report.Counts.Sent == 0 {
			continue
		}
		var verdicts []string
		for _, text := range slices.Sorted(maps.Keys(report.Verdicts)) {
			verdicts = append(verdicts, fmt.Sprintf("%s: %d", text, report.Verdicts[text]))
		}
		t.add(cells(report.Device.ID, behaviour, fmt.Sprint(report.Counts.Sent), strings.Join(verdicts, ", "))...)
	}
	_ = t.flush()
	fmt.Fprintf(d.out, "\n%s stored by the service. Everything is kept in %s; the next run goes on with it.\n", plural(int64(d.services.Stored()), "reading"), d.folder)
}
