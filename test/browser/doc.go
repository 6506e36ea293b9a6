// Package browser has people use the web console: journeys in Debian's Chromium through the console that a real node serves, and what
// has to hold on every page. A journey is an ES module beside this file; harness.mjs is what they share.
package browser
