// Package smuggling proves that Fieldgate frames HTTP/1.1 messages as others do: a generated corpus of broken and ambiguous
// messages goes through it, through nginx, through haproxy and through net/http, and what each of them sees is compared.
package smuggling
