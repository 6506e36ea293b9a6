package schema

// Formats of RFC 3339. Each takes the text and says whether it is one.

func isDateTime(s []byte) bool {
	return len(s) >= 20 && s[10]|0x20 == 't' && isDate(s[:10]) && isTime(s[11:])
}

// isDate checks full-date (RFC 3339 §5.6) against the Gregorian calendar.
func isDate(s []byte) bool {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return false
	}
	century, ok1 := twoDigits(s)
	year, ok2 := twoDigits(s[2:])
	month, ok3 := twoDigits(s[5:])
	day, ok4 := twoDigits(s[8:])
	if !(ok1 && ok2 && ok3 && ok4) || month < 1 || month > 12 || day < 1 {
		return false
	}
	days := [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	year += 100 * century
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days = 29
	}
	return day <= days
}

func twoDigits(s []byte) (int, bool) {
	tens, ones := s[0]-'0', s[1]-'0'
	return int(tens)*10 + int(ones), tens < 10 && ones < 10
}

// isTime checks full-time (RFC 3339 §5.6); second 60 only where UTC can have it, at 23:59.
func isTime(s []byte) bool {
	if len(s) < 9 || s[2] != ':' || s[5] != ':' {
		return false
	}
	hour, ok1 := twoDigits(s)
	minute, ok2 := twoDigits(s[3:])
	second, ok3 := twoDigits(s[6:])
	if !(ok1 && ok2 && ok3) || hour > 23 || minute > 59 || second > 60 {
		return false
	}
	i := 8
	if s[i] == '.' {
		first := i + 1
		for i = first; i < len(s) && isDigit(s[i]); i++ {
		}
		if i == first {
			return false
		}
	}
	zone := s[i:]
	if len(zone) == 1 {
		return zone[0]|0x20 == 'z' && (second < 60 || hour == 23 && minute == 59)
	}
	if len(zone) != 6 || zone[3] != ':' || zone[0] != '+' && zone[0] != '-' {
		return false
	}
	zoneHour, ok1 := twoDigits(zone[1:])
	zoneMinute, ok2 := twoDigits(zone[4:])
	if !(ok1 && ok2) || zoneHour > 23 || zoneMinute > 59 {
		return false
	}
	offset := zoneHour*60 + zoneMinute
	if zone[0] == '+' {
		offset = -offset
	}
	return second < 60 || (hour*60+minute+offset+24*60)%(24*60) == 23*60+59
}

// isDuration checks RFC 3339 appendix A.
func isDuration(s []byte) bool {
	if len(s) < 2 || s[0] != 'P' {
		return false
	}
	s = s[1:]
	if s[len(s)-1] == 'W' {
		n := digits(s)
		return n > 0 && n == len(s)-1
	}
	s, ok := durationPart(s, "YMD")
	if !ok || len(s) == 0 {
		return ok
	}
	if s[0] != 'T' || len(s) == 1 {
		return false
	}
	s, ok = durationPart(s[1:], "HMS")
	return ok && len(s) == 0
}

// durationPart reads numbers with units, largest unit first. PT1H30S, which ISO 8601
// allows and the grammar of RFC 3339 forgot, is accepted.
func durationPart(s []byte, units string) ([]byte, bool) {
	for len(s) > 0 && s[0] != 'T' {
		n := digits(s)
		if n == 0 || n == len(s) {
			return s, false
		}
		unit := 0
		for unit < len(units) && units[unit] != s[n] {
			unit++
		}
		if unit == len(units) {
			return s, false
		}
		units = units[unit+1:]
		s = s[n+1:]
	}
	return s, true
}

func digits(s []byte) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}
