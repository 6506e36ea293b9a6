package cache

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Policy is what the contract says about answers of an operation.
type Policy struct {
	TTL                  time.Duration // freshness of answers that say nothing about it
	StaleWhileRevalidate time.Duration
	Shared               bool // answers are for everybody, otherwise for one caller
}

// freshness is how long an answer may be used.
type freshness struct {
	lifetime             time.Duration
	staleWhileRevalidate time.Duration
	mustRevalidate       bool // no use once it is stale (RFC 9111 section 5.2.2.2)
	always               bool // not to be used without asking (no-cache)
}

// freshness decides whether an answer may be kept and for how long (RFC 9111 sections 3 and 4.2).
func (p *Policy) freshness(request Fields, status int, fields []Field, now time.Time) (freshness, bool) {
	said := directivesOf(valuesOf(fields, "cache-control"))
	asked := directivesOf(field(request, "cache-control"))
	switch {
	case !storable(status):
		return freshness{}, false
	case valueOf(fields, "content-encoding") != "" && !listed(valuesOf(fields, "vary"), "accept-encoding"):
		return freshness{}, false // a caller that cannot decode it would get it too
	case said.noStore, asked.noStore:
		return freshness{}, false
	case p.Shared && (said.private || valueOf(fields, "set-cookie") != ""):
		return freshness{}, false
	}
	f := freshness{mustRevalidate: said.mustRevalidate, always: said.noCache,
		staleWhileRevalidate: max(p.StaleWhileRevalidate, said.staleWhileRevalidate)}
	expires := valueOf(fields, "expires")
	switch {
	case p.Shared && said.sharedMaxAge >= 0: // RFC 9111 section 5.2.2.10
		f.lifetime, f.mustRevalidate = said.sharedMaxAge, true
	case said.maxAge >= 0:
		f.lifetime = said.maxAge
	case expires != "":
		f.lifetime = untilExpiry(expires, valueOf(fields, "date"), now)
	case status == http.StatusOK || status == http.StatusNonAuthoritativeInfo || status == http.StatusMovedPermanently || status == http.StatusPermanentRedirect:
		f.lifetime = p.TTL
	}
	validated := valueOf(fields, "etag") != "" || valueOf(fields, "last-modified") != ""
	return f, f.lifetime > 0 && !f.always || validated && (f.always || said.maxAge == 0 || f.lifetime > 0)
}

// storable says whether a status is about the resource. All others may be an answer to something in this request that no key holds, such as
// a range, a precondition or the size of its fields, and would keep the resource from those who ask rightly, even with an explicit lifetime.
func storable(status int) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent, http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusFound,
		http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

// listed says whether a list has a name; "*" stands for all.
func listed(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "*" || strings.EqualFold(item, name) {
			return true
		}
	}
	return false
}

// untilExpiry: a date that is none is in the past (RFC 9111 section 5.3).
func untilExpiry(expires, date string, now time.Time) time.Duration {
	ends, err := http.ParseTime(expires)
	if err != nil {
		return 0
	}
	began, err := http.ParseTime(date)
	if err != nil {
		began = now
	}
	return max(ends.Sub(began), 0)
}

// directives are those of Cache-Control that mean something here. Times that are not given are -1.
type directives struct {
	noStore, noCache, private, mustRevalidate, onlyIfCached bool

	maxAge, sharedMaxAge                     time.Duration
	maxStale, minFresh, staleWhileRevalidate time.Duration // 0 when not given
}

func (d directives) empty() bool { return d == noDirectives }

var noDirectives = directives{maxAge: -1, sharedMaxAge: -1}

// directivesOf reads a Cache-Control field (RFC 9111 section 5.2). Of a directive that is given twice the stricter counts.
func directivesOf(value string) directives {
	d := noDirectives
	for value != "" {
		var name, argument string
		name, argument, value = nextDirective(value)
		seconds, ok := deltaSeconds(argument)
		switch strings.ToLower(name) {
		case "no-store":
			d.noStore = true
		case "no-cache": // with field names it is taken for the whole: RFC 9111 section 5.2.2.4 allows that
			d.noCache = true
		case "private":
			d.private = true
		case "must-revalidate", "proxy-revalidate":
			d.mustRevalidate = true
		case "only-if-cached":
			d.onlyIfCached = true
		case "max-age":
			d.maxAge = stricter(d.maxAge, seconds, ok)
		case "s-maxage":
			d.sharedMaxAge = stricter(d.sharedMaxAge, seconds, ok)
		case "max-stale":
			if d.maxStale = seconds; argument == "" {
				d.maxStale = maxDelta
			}
		case "min-fresh":
			d.minFresh = seconds
		case "stale-while-revalidate":
			d.staleWhileRevalidate = seconds
		}
	}
	return d
}

// stricter: a number that is none makes the answer stale (RFC 9111 section 4.2.1).
func stricter(before, now time.Duration, ok bool) time.Duration {
	if !ok {
		now = 0
	}
	if before >= 0 {
		return min(before, now)
	}
	return now
}

// nextDirective takes one directive off a list; a comma within quotes does not end it.
func nextDirective(list string) (name, argument, rest string) {
	quoted, end := false, len(list)
	for i := range len(list) {
		if c := list[i]; c == '"' {
			quoted = !quoted
		} else if c == ',' && !quoted {
			end = i
			break
		}
	}
	item := list[:end]
	if end < len(list) {
		rest = list[end+1:]
	}
	name, argument, _ = strings.Cut(item, "=")
	return strings.TrimSpace(name), strings.Trim(strings.TrimSpace(argument), `"`), rest
}

// maxDelta is what larger numbers of seconds are taken for (RFC 9111 section 1.2.2).
const maxDelta = (1 << 31) * time.Second

func deltaSeconds(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	seconds, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return maxDelta, true
	}
	return time.Duration(seconds) * time.Second, true
}

func field(fields Fields, name string) string {
	value, _ := lookup(fields, name)
	return value
}

func lookup(fields Fields, name string) (value string, found bool) {
	if fields == nil {
		return "", false
	}
	bytes, found := fields.Field(name)
	return string(bytes), found
}

func valueOf(fields []Field, name string) string {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return ""
}

// valuesOf joins the lines of a list field (RFC 9110 section 5.3).
func valuesOf(fields []Field, name string) string {
	joined := ""
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			if joined != "" {
				joined += ", "
			}
			joined += fields[i].Value
		}
	}
	return joined
}
