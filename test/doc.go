// Package test holds the suites that need more than one package: the rules of the tree, the built binary with real clients,
// and what happens to it when it is killed.
package test
