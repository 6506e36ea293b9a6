package smuggling

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// The corpus has no end. An ordinary run takes its beginning; FIELDGATE_SMUGGLING_CASES=1000000 takes more of it.
var caseCount = flag.Int("smuggling-cases", 6_000, "streams of requests, and answers, that are tried")

func cases(t *testing.T) int {
	count := *caseCount
	if text := os.Getenv("FIELDGATE_SMUGGLING_CASES"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	if testing.Short() {
		count /= 10
	}
	return count
}

// eachCase runs check for the numbers of all cases, some at once.
func eachCase(t *testing.T, check func(number int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	count := int64(cases(t))
	for range 8 {
		workers.Go(func() {
			for number := next.Add(1) - 1; number < count && !t.Failed(); number = next.Add(1) - 1 {
				check(int(number))
			}
		})
	}
	workers.Wait()
}

// answer is what came back for one request.
type answer struct {
	status int
	seen   string // what the origin saw; empty: it was not asked
}

// read takes the answers to a stream of requests apart, until one that is no HTTP/1.1 answer.
func read(stream []byte) (answers []answer) {
	in := bufio.NewReader(bytes.NewReader(stream))
	for {
		head, err := peekHead(in)
		if err != nil {
			return answers
		}
		// Whether an answer has content depends on the request. The origin says which it was.
		method := "GET"
		if bytes.Contains(head, []byte(seenField+": HEAD ")) || bytes.Contains(head, []byte(strings.ToLower(seenField)+": HEAD ")) {
			method = "HEAD"
		} else if rest, _ := in.Peek(len(head) + 5); bytes.HasSuffix(rest, []byte("HTTP/")) && len(rest) == len(head)+5 {
			method = "HEAD" // a refusal without content
		}
		response, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return answers
		}
		if response.StatusCode < 200 {
			continue
		}
		if _, err := io.ReadAll(response.Body); err != nil && method != "HEAD" {
			return append(answers, answer{status: response.StatusCode})
		}
		answers = append(answers, answer{response.StatusCode, response.Header.Get(seenField)})
	}
}

func peekHead(in *bufio.Reader) ([]byte, error) {
	for n := 1; ; {
		peeked, err := in.Peek(n)
		if end := bytes.Index(peeked, []byte("\r\n\r\n")); end >= 0 {
			return peeked[:end+4], nil
		}
		if err != nil {
			return nil, err
		}
		n = max(n+1, in.Buffered())
	}
}

// seen are the requests that reached the origin before the first that was refused.
func seen(answers []answer) (requests []string) {
	for _, answer := range answers {
		if answer.seen == "" {
			return requests
		}
		requests = append(requests, answer.seen)
	}
	return requests
}

// TestRequests sends each stream through Fieldgate in front of net/http, nginx and haproxy, and past Fieldgate to each of them.
//
// As upstreams they must read each request that Fieldgate forwards as one request, and the same one. As fronts (whatever would stand
// before Fieldgate and pass the bytes on) they may refuse what Fieldgate accepts and the other way round, but as far as both accept,
// both must see the same requests: otherwise one takes for content what the other takes for a request. And what Fieldgate accepts, at
// least one of them accepts.
func TestRequests(t *testing.T) {
	service := origin(t)
	fronts := map[string]string{"net/http": service, "nginx": nginxBefore(t, service), "haproxy": haproxyBefore(t, service)}
	gates := map[string]string{}
	for name, address := range fronts {
		gates[name] = fieldgateBefore(t, address)
	}
	var accepted, whole, refused atomic.Int64
	eachCase(t, func(number int) {
		stream := requests(number)
		fail := func(format string, args ...any) {
			t.Helper()
			t.Errorf("stream %d, %q\n"+format, append([]any{number, stream}, args...)...)
		}
		ask := func(name, address string) []answer {
			raw, err := exchange(address, stream, patience)
			if err != nil && !errors.Is(err, errCut) {
				fail("%s: %v", name, err)
			}
			return read(raw)
		}
		answers := ask("Fieldgate", gates["net/http"])
		ours := seen(answers)
		for i, answer := range answers { // 404 and 405 refuse a request, others the stream
			if answer.seen == "" && answer.status != 404 && answer.status != 405 && i != len(answers)-1 {
				fail("Fieldgate goes on after a refusal: %v", answers)
			}
		}
		if len(ours) == 0 {
			refused.Add(1)
			return
		}
		accepted.Add(1)
		if len(answers) == len(ours) {
			whole.Add(1)
		}
		for _, name := range []string{"nginx", "haproxy"} {
			others := ask("Fieldgate before "+name, gates[name])
			for i := range min(len(answers), len(others)) {
				if answers[i].seen != "" && others[i].seen != "" && answers[i] != others[i] {
					fail("request %d: net/http read %v, %s %v", i, answers[i], name, others[i])
				}
			}
			// An upstream that refuses a request before it has all of it costs the connection.
			if len(others) > len(answers) || len(others) < len(answers) && (len(others) == 0 || others[len(others)-1].seen != "") {
				fail("before net/http %v\nbefore %s %v", answers, name, others)
			}
		}
		agreed := 0
		for name, address := range fronts {
			theirs := seen(ask(name, address))
			agreed = max(agreed, len(theirs))
			for i := range min(len(ours), len(theirs)) {
				if ours[i] != theirs[i] {
					fail("request %d: Fieldgate sees %s, %s %s", i, ours[i], name, theirs[i])
				}
			}
		}
		if agreed < len(ours) {
			fail("Fieldgate accepts what all others refuse, after %d requests: %v", agreed, ours)
		}
	})
	t.Logf("%d streams: %d refused at once, %d accepted in part, of which %d to their end", cases(t), refused.Load(), accepted.Load(), whole.Load())
	if !t.Failed() && (accepted.Load() < int64(cases(t)/10) || refused.Load() < int64(cases(t)/10)) {
		t.Error("the corpus is too good or too bad to prove anything")
	}
}
