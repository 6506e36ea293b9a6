package fieldgate

// PrincipalKind says what sort of caller a principal is.
type PrincipalKind string

const (
	PrincipalAnonymous PrincipalKind = "anonymous" // presented no credential
	PrincipalDevice    PrincipalKind = "device"
	PrincipalApp       PrincipalKind = "app"
	PrincipalForeign   PrincipalKind = "foreign" // pass-through only: presented a credential that is not ours; the id is its claim, unproven
)

// PrincipalState says whether a principal may do anything at present.
type PrincipalState uint8

const (
	StateActive      PrincipalState = iota
	StateQuarantined                // a device that is cut off until an operator releases it
	StateRevoked                    // for good

	PrincipalStates // number of states
)

var stateNames = [PrincipalStates]string{"active", "quarantined", "revoked"}

func (s PrincipalState) String() string {
	if s < PrincipalStates {
		return stateNames[s]
	}
	return "unknown"
}

// ParsePrincipalState is the inverse of PrincipalState.String.
func ParsePrincipalState(name string) (PrincipalState, bool) {
	for i, n := range stateNames {
		if n == name {
			return PrincipalState(i), true
		}
	}
	return 0, false
}

// Principal is who calls.
type Principal struct {
	Kind     PrincipalKind
	ID       string
	State    PrincipalState
	Model    string // devices: hardware model, as registered
	Firmware string // devices: version last registered
	Scopes   []string
}

// MaxCredentials is how many valid credentials one principal may have at once (for rotation).
const MaxCredentials = 4

// DirectoryChange is the whole new value of one principal. Applying the same change twice, or an older one after a newer
// one, changes nothing: Sequence decides.
type DirectoryChange struct {
	Sequence    uint64           `json:"sequence"` // rises with each change of the directory
	Kind        PrincipalKind    `json:"kind"`
	ID          string           `json:"id"`
	State       PrincipalState   `json:"state"`
	Model       string           `json:"model,omitempty"`
	Firmware    string           `json:"firmware,omitempty"`
	Scopes      []string         `json:"scopes,omitempty"`
	Credentials []CredentialHash `json:"credentials,omitempty"` // tokens; at most MaxCredentials
	Verifiers   []ScramVerifier  `json:"verifiers,omitempty"`   // one for each of Credentials, or none at all

	PSK          *SealedPSK       `json:"psk,omitempty"`          // devices; nil: none
	Certificates []CredentialHash `json:"certificates,omitempty"` // devices; at most MaxCertificates
	OSCORE       *SealedOSCORE    `json:"oscore,omitempty"`       // devices; nil: none
}

// ValidIdentifier says whether id may name an API, operation, device or app: 1 to MaxIdentifierBytes of letters, digits and
// ". _ - :", so that it can stand in a path segment, a topic level and a client id unescaped.
func ValidIdentifier(id string) bool {
	if id == "" || len(id) > MaxIdentifierBytes || id == "." || id == ".." {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == ':':
		default:
			return false
		}
	}
	return true
}
