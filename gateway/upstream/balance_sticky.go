package upstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"fieldgate"
)

// stickyCookie is the cookie that names an address of an upstream to callers: its value, and the whole Set-Cookie value (RFC 6265
// §4.1). The value is the same on all gateways with the same secret and says nothing about the address.
func stickyCookie(config *fieldgate.Upstream, address string) (value, cookie string) {
	sticky := &config.Sticky
	if sticky.Cookie == "" {
		return "", ""
	}
	code := hmac.New(sha256.New, []byte(sticky.Secret))
	code.Write([]byte(config.Name + "\x00" + address))
	value = hex.EncodeToString(code.Sum(nil)[:16])
	cookie = sticky.Cookie + "=" + value + "; Path=/; HttpOnly; SameSite=Lax"
	if sticky.MaxAge > 0 {
		cookie += "; Max-Age=" + strconv.FormatInt(int64(sticky.MaxAge/time.Second), 10)
	}
	if sticky.Secure {
		cookie += "; Secure"
	}
	return value, cookie
}

// StickyCookie is the value of the Set-Cookie field that names the address which answered to the caller; empty when the upstream has
// no sticky cookie or the caller sent this one. After Answer.
func (c *Call) StickyCookie() string {
	if c.address == nil || c.address.cookieValue == c.Choice.Sticky {
		return ""
	}
	return c.address.cookie
}
