package h1

// Set fills the Request from the fields of an HTTP/2 or HTTP/3 request (RFC 9113 §8.3.1, RFC 9114 §4.3.1), to which the rules
// of Parse apply, and those that are the versions' own. Of fields it reads names and values, and the Request keeps the
// slice; nothing is copied but what is normalised. Framing is Length if there is a Content-Length, else UntilClose: the
// content ends with the stream. A caller that knows that there is none sets NoBody, and it refuses a stream whose content is
// not as long as Length says (RFC 9113 §8.1.1). Minor is 1. It returns an *Error.
func (r *Request) Set(method, scheme, authority, path []byte, fields Fields, limits *Limits) error {
	if !validMethod(method) {
		return ErrRequestLine
	}
	if len(method)+len(path)+len(" HTTP/1.1")+1 > limits.RequestLine {
		return ErrRequestLineLength
	}
	found, err := checkFields(fields, len(method)+len(scheme)+len(authority)+len(path), limits)
	if err != nil {
		return err
	}
	r.Fields = r.joinCookies(fields)

	if found.hosts > 1 {
		return ErrHost
	}
	if len(authority) == 0 {
		authority = found.host // RFC 9113 §8.3.1: as a gateway from HTTP/1.1 leaves it
	} else if found.hosts > 0 && !EqualFold(found.host, authority) {
		return ErrHost
	}
	found.hosts, found.host = min(1, len(authority)), authority
	r.Method, r.Target, r.Minor = method, path, 1
	if string(method) == "CONNECT" { // RFC 9113 §8.5
		if len(scheme) > 0 || len(path) > 0 || len(authority) == 0 {
			return ErrTarget
		}
		r.Target = authority
	} else if !EqualFold(scheme, "http") && !EqualFold(scheme, "https") || len(path) == 0 || path[0] != '/' && path[0] != '*' {
		return ErrTarget
	}
	if err := r.resolveTarget(&found); err != nil {
		return err
	}
	if err := r.frame(&found); err != nil {
		return err
	}
	if r.Framing == NoBody {
		r.Framing = UntilClose
		r.ExpectContinue = found.expect != nil
	}
	return nil
}

// checkFields applies RFC 9113 §8.2 and the limits; size is that of what stands before the fields.
func checkFields(fields Fields, size int, limits *Limits) (found framingFields, err error) {
	if len(fields) > limits.Fields {
		return found, ErrTooManyFields
	}
	for i := range fields {
		field := &fields[i]
		if size += len(field.Name) + len(field.Value) + len(": \r\n"); size > limits.Head {
			return found, ErrHeadTooLarge
		}
		if err := checkField(field.Name, field.Value); err != nil {
			return found, err
		}
		field.Kind, field.Hop = KindOf(field.Name), false
		switch {
		case field.Kind == KindOther:
			continue
		case connectionSpecific(field):
			return found, ErrConnectionField
		}
		if err := found.take(field); err != nil {
			return found, err
		}
	}
	return found, nil
}

// checkField applies RFC 9113 §8.2.1: names in lower case, values without whitespace around them.
func checkField(name, value []byte) error {
	if !ValidName(name) {
		return ErrFieldName
	}
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			return ErrFieldName
		}
	}
	if !validValue(value) || len(trimSpace(value)) != len(value) {
		return ErrFieldValue
	}
	return nil
}

// connectionSpecific: RFC 9113 §8.2.2.
func connectionSpecific(field *Field) bool {
	switch field.Kind {
	case KindConnection, KindTransferEncoding, KindUpgrade:
		return true
	case KindTE:
		return !EqualFold(field.Value, "trailers")
	case KindHop:
		return EqualFold(field.Name, "keep-alive") || EqualFold(field.Name, "proxy-connection")
	}
	return false
}

// joinCookies makes one field of cookies that came one by one (RFC 9113 §8.2.3): whoever reads HTTP/1.1 expects one.
func (r *Request) joinCookies(fields Fields) Fields {
	first, cookies := -1, 0
	for i := range fields {
		if len(fields[i].Name) == len("cookie") && EqualFold(fields[i].Name, "cookie") {
			if cookies++; first < 0 {
				first = i
			}
		}
	}
	if cookies < 2 {
		return fields
	}
	r.cookies = r.cookies[:0]
	kept := fields[:0]
	for i, field := range fields {
		if len(field.Name) != len("cookie") || !EqualFold(field.Name, "cookie") {
			kept = append(kept, field)
			continue
		}
		if i == first {
			kept = append(kept, field)
		} else {
			r.cookies = append(r.cookies, "; "...)
		}
		r.cookies = append(r.cookies, field.Value...)
	}
	kept[first].Value = r.cookies
	return kept
}
