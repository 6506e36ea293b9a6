package pipeline

import "strings"

// covers says whether every topic that the inner filter matches is matched by the outer one too.
func covers(outer, inner string) bool {
	if inner != "" && inner[0] == '$' && (outer[0] == '+' || outer[0] == '#') {
		return false
	}
	for {
		outerLevel, outerRest, outerMore := strings.Cut(outer, "/")
		innerLevel, innerRest, innerMore := strings.Cut(inner, "/")
		switch {
		case outerLevel == "#":
			return true
		case innerLevel == "#", outerLevel != "+" && outerLevel != innerLevel:
			return false
		case !innerMore:
			return !outerMore || outerRest == "#"
		case !outerMore:
			return false
		}
		outer, inner = outerRest, innerRest
	}
}
