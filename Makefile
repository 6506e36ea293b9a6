# Every task of the project; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
GO := go
# The same flags for builds and tests, so that nothing is compiled twice.
export GOFLAGS := -trimpath -buildvcs=false

# What the tests use besides Go, as Debian packages. Each is needed by the command that it stands for.
TEST_COMMANDS := curl:curl mosquitto_pub:mosquitto-clients mosquitto:mosquitto coap-client-notls:libcoap3-bin
BENCH_COMMANDS := nginx:nginx-light wrk:wrk

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/fieldgate
	$(GO) build -ldflags "-s -w" -o bin/fieldgate ./cmd/fieldgate

.PHONY: demo
demo: build ## Run Fieldgate with a simulated fleet and show its traffic (Ctrl-C ends it)
	./bin/fieldgate demo

.PHONY: test
test: tools lint ## Install what the tests need, check the code and run every test
	$(GO) test -timeout 15m ./...
	$(GO) test -short -race -timeout 15m $(RACE_PACKAGES)

# Packages with goroutines of their own; the others would only cost time under the race detector.
RACE_PACKAGES := ./gateway/... ./protocol/... ./engine/... ./control/... ./sim/...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck and the generated files
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@./test/generated.sh

.PHONY: vulnerabilities
vulnerabilities: ## Look the dependencies up in the Go vulnerability database (needs the internet)
	$(GO) tool govulncheck ./...

.PHONY: generate
generate: ## Generate the admin API's server and client from api/fieldgate.openapi.yaml
	$(GO) generate ./api/...

.PHONY: fuzz
fuzz: ## Fuzz every parser, FUZZTIME (default 30s) each
	./test/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: bench
bench: bench-tools build ## Measure what docs/measurements.md reports
	./test/bench/run.sh

.PHONY: soak
soak: tools build ## Kill and restart Fieldgate under load, ROUNDS (default 20) times, and check that nothing acknowledged is lost
	FIELDGATE_SOAK_ROUNDS=$(or $(ROUNDS),20) $(GO) test -count=1 -timeout 60m -run TestKill -v ./test/...

.PHONY: tools
tools: ## Install the Debian packages that the tests use
	@./test/install.sh $(TEST_COMMANDS)

.PHONY: bench-tools
bench-tools: tools
	@./test/install.sh $(BENCH_COMMANDS)

.PHONY: clean
clean: ## Remove what was built and the demo's data
	rm -rf bin demo-data
