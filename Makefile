# Every task of the project; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
GO := go
# The same flags for builds and tests, so that nothing is compiled twice.
export GOFLAGS := -trimpath -buildvcs=false

# What the tests use besides Go, as Debian packages. Each is needed by the command that it stands for.
TEST_COMMANDS := curl:curl mosquitto_pub:mosquitto-clients mosquitto:mosquitto coap-client-notls:libcoap3-bin \
	haproxy:haproxy nginx:nginx-light /usr/lib/postgresql/15/bin/postgres:postgresql-15 chromium:chromium
BENCH_COMMANDS := nginx:nginx-light haproxy:haproxy caddy:caddy wrk:wrk h2load:nghttp2-client mosquitto:mosquitto coap-server-notls:libcoap3-bin

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: console ## Build bin/fieldgate with the console in it
	$(GO) build -ldflags "-s -w" -o bin/fieldgate ./cmd/fieldgate

# The console is built anew when one of its sources, or what it is made of, has changed.
CONSOLE := console/dist/app/index.html
.PHONY: console
console: $(CONSOLE) ## Build the web console (Node 20 or newer, npm)

console/node_modules/.installed: console/package-lock.json
	@node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || { echo "The console needs Node 20 or newer, and npm." >&2; exit 1; }
	cd console && npm ci --no-audit --no-fund
	touch $@

$(CONSOLE): console/node_modules/.installed $(shell find console/src console/public console/scripts console/*.ts console/*.json console/index.html -type f)
	cd console && npm run --silent build
	touch $@

.PHONY: demo
demo: build ## Run Fieldgate with a simulated fleet and show its traffic (Ctrl-C ends it)
	./bin/fieldgate demo

.PHONY: test
test: tools test-clients ## Install what the tests need, check the code and run every test
	$(MAKE) -j2 lint
	$(MAKE) console
	$(MAKE) test-packages
	$(MAKE) test-product

.PHONY: test-packages test-product
# Each package runs on both databases: those of RACE_PACKAGES on PostgreSQL here and on SQLite under the race detector, the others on both here.
test-packages:
	cd console && npm run --silent test
	$(GO_TEST) $$($(GO) list ./... | grep -v '^fieldgate/test' | grep -vxFf <(printf '%s\n' $(RACE_PACKAGES)))
	FIELDGATE_TEST_STORE=postgres $(GO_TEST) $(RACE_PACKAGES)
	FIELDGATE_TEST_STORE=sqlite $(GO_TEST) -short -race $(RACE_PACKAGES)

# Tests wait as much as they work: more packages run at once than there are processors. lint has vetted everything.
GO_TEST = $(GO) test -vet=off -p 4 -timeout 20m

# Most of these wait for processes and faults; browsers need the processors. They run the binary that they build, of which go's cache of results knows nothing.
test-product:
	$(GO_TEST) -count 1 -parallel 3 ./test/...

# Packages with goroutines of their own, those that take longest first; the others would only cost time under the race detector.
RACE_PACKAGES = $$($(GO) list ./control/... ./gateway/... ./protocol/... ./engine/... ./sim/... | grep -vE '/control/(catalog|directory|filter|refusal|schema|targets)$$')

.PHONY: lint lint-go lint-console
lint: lint-go lint-console ## gofmt, go vet, staticcheck, the console's types and the generated files

lint-go:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

lint-console: console/node_modules/.installed
	cd console && npm run --silent check
	@./test/generated.sh

.PHONY: vulnerabilities
vulnerabilities: ## Look the dependencies up in the Go vulnerability database (needs the internet)
	$(GO) tool govulncheck ./...

.PHONY: generate
generate: console/node_modules/.installed ## Generate server, client and the console's types from api/fieldgate.openapi.yaml
	$(GO) generate ./api/...
	cd console && npm run --silent generate

.PHONY: fuzz
fuzz: ## Fuzz every parser, FUZZTIME (default 30s) each; FUZZ=mqtt only those of MQTT
	./test/fuzz.sh $(or $(FUZZTIME),30s) $(FUZZ)

.PHONY: bench
bench: bench-tools build ## Measure what docs/measurements.md reports
	./test/bench/run.sh

.PHONY: bench-http
bench-http: bench-tools build ## Measure HTTP beside nginx, HAProxy and Caddy, in turn (BENCH_FLAGS="-rounds 5")
	$(GO) run ./test/bench -only http,latency,http2,routes,reload $(BENCH_FLAGS)

.PHONY: bench-mqtt
bench-mqtt: bench-tools build ## Measure MQTT beside mosquitto, in turn (BENCH_FLAGS="-rounds 5 -cases qos0,paced,idle")
	$(GO) run ./test/bench -only mqtt,mqtt-idle $(BENCH_FLAGS)

.PHONY: bench-coap
bench-coap: bench-tools build ## Measure CoAP beside libcoap and go-coap, in turn (BENCH_FLAGS="-rounds 5 -cases get64,get10000,oneflat,isolation,fanout")
	$(GO) run ./test/bench -only coap $(BENCH_FLAGS)

.PHONY: soak
soak: tools build ## Kill and restart Fieldgate under load, ROUNDS (default 50) times, and check that nothing acknowledged is lost
	FIELDGATE_SOAK_ROUNDS=$(or $(ROUNDS),50) $(GO) test -count=1 -timeout 120m -run 'Kill|Fault|Floods' -v ./test

.PHONY: soak-http
soak-http: tools ## Load all that HTTP has for DURATION (default 5m), with faults, and check that nothing leaks and every exchange is recorded
	FIELDGATE_SOAK_HTTP=$(or $(DURATION),5m) $(GO) test -count=1 -timeout 240m -run TestHTTPSoak -v ./test

.PHONY: tools
tools: ## Install the Debian packages that the tests use
	@./test/install.sh $(TEST_COMMANDS)

.PHONY: test-clients
test-clients: test/clients/node_modules/.installed ## Install the npm packages that the tests use

test/clients/node_modules/.installed: test/clients/package-lock.json
	cd test/clients && npm ci --no-audit --no-fund
	touch $@

.PHONY: bench-tools
bench-tools: tools
	@./test/install.sh $(BENCH_COMMANDS)

.PHONY: clean
clean: ## Remove what was built and the demo's data
	rm -rf bin demo-data console/dist/app console/node_modules test/clients/node_modules
