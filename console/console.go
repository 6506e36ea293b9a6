// Package console is the web console: it serves what console/ was built into, from inside the binary.
//
// The console is a client of the admin API like any other; this package knows no session and no data. It answers page addresses
// with the one page there is, assets by their names, and everything else with 404.
package console

import (
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// dist/app is what `npm run build` leaves there; without it the placeholder says what to do.
//
//go:embed all:dist placeholder.html
var files embed.FS

const built = "dist/app/"

// The console runs no inline code, loads nothing from elsewhere, and is shown in nobody's frame.
const contentSecurityPolicy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

// Handler serves the console of the files that this binary was built with.
func Handler() http.Handler { return handler(files) }

func handler(files fs.FS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", contentSecurityPolicy)
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "The console is only read.", http.StatusMethodNotAllowed)
			return
		}
		name, ok := fileOf(files, r.URL.Path)
		if !ok {
			http.Error(w, "The console has no such file.", http.StatusNotFound)
			return
		}
		serve(w, r, files, name)
	})
}

// fileOf is the file that answers a request. Every address that is not an asset's is a page's, and the console itself says when
// there is no such page; below the paths of the API nothing is.
func fileOf(files fs.FS, address string) (name string, ok bool) {
	relative := strings.TrimPrefix(path.Clean("/"+address), "/")
	first, rest, nested := strings.Cut(relative, "/")
	switch {
	case first == "api" || first == "metrics" || first == "healthz" || first == "readyz":
		return "", false
	case first == "assets" || !nested && strings.Contains(first, "."): // a page's last segment may hold a dot, as in a device's id
		if rest == "" && nested || strings.HasSuffix(relative, ".gz") {
			return "", false
		}
		name = built + relative
		return name, isFile(files, name)
	}
	if page := built + "index.html"; isFile(files, page) {
		return page, true
	}
	return "placeholder.html", true
}

func isFile(files fs.FS, name string) bool {
	info, err := fs.Stat(files, name)
	return err == nil && info.Mode().IsRegular()
}

func serve(w http.ResponseWriter, r *http.Request, files fs.FS, name string) {
	header := w.Header()
	header.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	if strings.HasPrefix(name, built+"assets/") {
		header.Set("Cache-Control", "public, max-age=31536000, immutable") // the name holds a hash of the content
	} else {
		header.Set("Cache-Control", "no-cache")
	}
	header.Set("Vary", "Accept-Encoding")
	if compressed := name + ".gz"; acceptsGzip(r.Header.Get("Accept-Encoding")) && isFile(files, compressed) {
		header.Set("Content-Encoding", "gzip")
		name = compressed
	}
	content, err := fs.ReadFile(files, name)
	if err != nil {
		http.Error(w, "The console cannot be read.", http.StatusInternalServerError)
		return
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write(content) // the reader may be gone
	}
}

// acceptsGzip says whether gzip is among the codings, and not with the weight 0 (RFC 9110 section 12.5.3).
func acceptsGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			weight = strings.ReplaceAll(weight, " ", "")
			return strings.TrimRight(weight, "0.") != "q="
		}
	}
	return false
}
