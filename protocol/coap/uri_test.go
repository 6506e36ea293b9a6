package coap

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestAddURI(t *testing.T) {
	for _, test := range []struct{ clause, uri, address, options string }{
		{"RFC 7252 §6.4: address, port, path and query", "coap://127.0.0.1:9683/a/b?x=1&y", "127.0.0.1:9683", "11:a 11:b 15:x=1 15:y"},
		{"RFC 7252 §6.1: the default port", "coap://[::1]/a", "[::1]:5683", "11:a"},
		{"RFC 8323 §8.1: over TCP", "coap+tcp://[::1]/a", "[::1]:5683", "11:a"},
		{"RFC 8323 §8.2: over TLS", "coaps+tcp://[::1]/a", "[::1]:5684", "11:a"},
		{"RFC 8323 §8.3: over WebSockets", "coap+ws://[::1]/a", "[::1]:80", "11:a"},
		{"RFC 8323 §8.4: over secured ones", "coaps+ws://[::1]:8443/a?b", "[::1]:8443", "11:a 15:b"},
		{"RFC 7252 §6.4 step 5: a name becomes Uri-Host in lower case", "coap://Example.NET/", "example.net:5683", "3:example.net"},
		{"RFC 7252 §6.4 step 8: percent-encoding is undone", "coap://1.2.3.4/%7Eu/a%2Fb?q=%26", "1.2.3.4:5683", "11:~u 11:a/b 15:q=&"},
		{"RFC 7252 §6.4 step 8: an empty segment at the end", "coap://1.2.3.4/a/", "1.2.3.4:5683", "11:a 11:"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			var options Options
			address, err := AddURI(&options, test.uri)
			var got []string
			for i := range options.Len() {
				number, value := options.At(i)
				got = append(got, fmt.Sprintf("%d:%s", number, value))
			}
			if err != nil || address != test.address || strings.Join(got, " ") != test.options {
				t.Errorf("%s, %q, %v", address, got, err)
			}
		})
	}
	for _, uri := range []string{"", "http://x/", "coap:///a", "coap://x/#f", "coap://u@x/", "coap://x/%zz", "coap://x/" + strings.Repeat("a", 256)} {
		var options Options
		if _, err := AddURI(&options, uri); !errors.Is(err, ErrURI) || options.Len() != 0 {
			t.Errorf("%q: %v", uri, err)
		}
	}
}
