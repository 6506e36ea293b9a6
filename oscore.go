package fieldgate

import "crypto/sha256"

// Bounds of an OSCORE security context (RFC 8613 section 3), in bytes. Longer identifiers do not fit into a nonce.
const (
	MinOSCORESecret    = 16
	MaxOSCORESecret    = 64
	MaxOSCORESalt      = 64
	MaxOSCOREID        = 7
	MaxOSCOREIDContext = 64
)

// SealedOSCORE is a device's OSCORE security context, with AES-CCM-16-64-128 and HKDF SHA-256. Gateways have to know its secrets in clear;
// everywhere else they are sealed by the installation's secret key, package engine/seal. The identifiers stand in each message.
type SealedOSCORE struct {
	SenderID    []byte `json:"senderId"`            // the device's, by which its requests name the context; may be empty
	RecipientID []byte `json:"recipientId"`         // the gateway's; may be empty
	IDContext   []byte `json:"idContext,omitempty"` // empty: none
	Sealed      []byte `json:"sealed"`              // OSCORESecrets
}

// MaxSealedOSCORE bounds SealedOSCORE.Sealed, in bytes.
const MaxSealedOSCORE = 1 + MaxOSCORESecret + MaxOSCORESalt + 64

// Hash is what the context is known by, as a token is by its hash. It tells nothing of the secrets.
func (c *SealedOSCORE) Hash() CredentialHash {
	return sha256.Sum256(append([]byte("fieldgate OSCORE\x00"), c.Sealed...))
}

// Binding is what sealed secrets are tied to: moved to another device or identifiers they cannot be opened.
func (c *SealedOSCORE) Binding(kind PrincipalKind, id string) string {
	binding := string(kind) + "\x00" + id
	for _, part := range [...][]byte{c.SenderID, c.RecipientID, c.IDContext} {
		binding += "\x00" + string(append([]byte{byte(len(part))}, part...))
	}
	return binding
}

// JoinOSCORESecrets is master secret and salt as they are sealed: the secret's length in a byte, then both.
func JoinOSCORESecrets(secret, salt []byte) []byte {
	return append(append([]byte{byte(len(secret))}, secret...), salt...)
}

// SplitOSCORESecrets is the inverse of JoinOSCORESecrets; not ok: it is not what that made.
func SplitOSCORESecrets(joined []byte) (secret, salt []byte, ok bool) {
	if len(joined) == 0 || int(joined[0]) > len(joined)-1 {
		return nil, nil, false
	}
	return joined[1 : 1+joined[0]], joined[1+joined[0]:], true
}

// Sender sequence numbers of OSCORE (RFC 8613 section 7.2.1) have 40 bits. Gateways take them in blocks, each of which the control plane gives
// out once: the upper bits of a number are its block's, the lower bits are counted by the gateway.
const (
	OSCOREBlockBits = 14
	MaxOSCOREBlock  = 1<<(40-OSCOREBlockBits) - 1
)

// OSCOREBlockRequest asks for a block above one that the gateway has; 0: it has none.
type OSCOREBlockRequest struct {
	After uint64 `json:"after,omitempty"`
}

// OSCOREBlock is a block of sender sequence numbers that no gateway has had before.
type OSCOREBlock struct {
	Block uint64 `json:"block"` // 1 to MaxOSCOREBlock
}
