# Every target has one line of help; `make` alone lists them.

GOFUMPT  := mvdan.cc/gofumpt@v0.12.0
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

LDFLAGS := -s -w
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64

.DEFAULT_GOAL := help
.PHONY: help build test demo check fmt-check vet lint generate generated cross conformance matrix fuzz bench bench-boot bench-output cover clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./slicervm-mcp
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o slicervm-mcp .

test: vet ## run vet and all tests with the race detector
	go test -race -p 2 -timeout 20m ./...

demo: build ## take the built server through its main job, over a pipe, in the embedded sandbox
	go run ./examples/tour -server ./slicervm-mcp -project examples/demo

BLACKBOX := internal/blackbox/node_modules/.package-lock.json
$(BLACKBOX): internal/blackbox/package-lock.json
	cd internal/blackbox && npm ci
	@touch $@

matrix: build $(BLACKBOX) ## run the built server with public clients, over every transport, in every revision of MCP
	go run ./internal/blackbox -server ./slicervm-mcp

check: fmt-check lint test generated ## all that a change must pass

fmt-check: ## fail on files that gofumpt would change
	@out=$$(go run $(GOFUMPT) -l .) && if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi

vet: ## run go vet
	go vet ./...

lint: ## run golangci-lint
	go run $(GOLANGCI) run ./...

generate: ## write schemas/ and README's table of tools anew
	go test ./tools -run '^(TestSchemas|TestReadmeTable)$$' -count=1 -update

generated: ## fail when generated files are out of date
	go test ./tools -run '^(TestSchemas|TestReadmeTable)$$' -count=1
	go mod tidy -diff

cross: ## build for every platform that the server runs on
	@for p in $(PLATFORMS); do echo "build $$p"; CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build -o /dev/null . || exit 1; done
	@for os in darwin windows; do echo "vet $$os"; GOOS=$$os go vet ./... || exit 1; done

conformance: ## run MCP's public conformance suite, which it installs with npm, against the HTTP transport
	go run ./internal/conformance

FUZZTIME ?= 30s
fuzz: ## run each fuzz target for FUZZTIME (30s)
	@go list -f '{{.Dir}}' ./... | while read -r dir; do \
		grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go 2>/dev/null | sed 's/^func //' | while read -r f; do \
			echo "fuzz $$f"; go test $$dir -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -parallel 2 || exit 1; \
		done || exit 1; \
	done

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem -p 1 ./...

bench-boot: ## print how long VMs take to boot, p50 and p95, one and four at a time
	go test -run '^$$' -bench '^BenchmarkBoot$$' -benchtime 50x ./internal/sandbox

bench-output: ## print what a command that prints 1 GiB costs: text for the model, memory of the server
	go test -run '^$$' -bench '^BenchmarkOutput$$' -benchtime 1x ./tools

cover: ## fail when the tests of sdk/ cover less than 90 % of it
	@go test -count=1 -coverprofile=cover.out ./sdk >/dev/null && \
		go tool cover -func=cover.out | awk '/^total:/ { print "sdk/ is covered to " $$3; exit $$3 + 0 < 90 }'; \
		status=$$?; rm -f cover.out; exit $$status

clean: ## remove what the targets make
	rm -rf slicervm-mcp dist examples/demo/build examples/demo/out
