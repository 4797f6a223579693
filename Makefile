# Atoll: `make demo` shows it, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
GO ?= go
BIN := bin

.PHONY: help deps build generate lint test test-fast test-gluster test-csi test-apiserver demo bench fuzz clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

deps: ## install what tests and demo need from Debian packages (as root)
	@tests/deps.sh

build: ## bin/atoll and bin/atoll-brick
	@mkdir -p $(BIN)
	$(GO) build -trimpath -o $(BIN)/ ./cmd/...

generate: ## everything that is made from the CUE schema
	$(GO) generate ./...

lint: ## gofumpt, vet, staticcheck
	@unformatted=$$($(GO) tool gofumpt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted, run 'go tool gofumpt -w':"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd tests/bench && $(GO) vet ./...
	cd tests/apiserver && $(GO) vet -tags bench ./...
	cd tests/sanity && $(GO) vet ./...

test: deps lint test-fast test-gluster test-csi test-apiserver ## everything, fast first; skips are listed at the end

# Packages whose tests start real bricks and mounts.
REAL := /tests/(gluster|podrun|demo|csi|uml)$$

test-fast: ## all that starts no daemons
	@tests/run.sh fast $$($(GO) list ./... | grep -vE '$(REAL)')

test-gluster: ## real bricks, mounts and self-heal (root)
	@tests/run.sh gluster $$($(GO) list ./... | grep -E '$(REAL)') -count=1 -timeout 20m

test-csi: ## csi-sanity on every kind of pool (root)
	@IN=tests/sanity tests/run.sh csi -count=1 ./...

# The server is built once; a changed version in tests/apiserver/go.mod builds it again.
APISERVER := $(CURDIR)/.cache/bin/kube-apiserver

$(APISERVER): tests/apiserver/go.mod
	@mkdir -p $(@D)
	@echo "building kube-apiserver, which takes some minutes the first time"
	@cd tests/apiserver && $(GO) build -o $@ k8s.io/kubernetes/cmd/kube-apiserver

test-apiserver: $(APISERVER) ## rendered objects on a real kube-apiserver and etcd
	@IN=tests/apiserver ATOLL_KUBE_APISERVER=$(APISERVER) tests/run.sh apiserver -count=1 -timeout 20m .

demo: deps ## from a pool document to data on a mounted volume (root)
	@$(GO) run ./tests/demo

bench: $(APISERVER) ## documents a second beside kubeconform, volumes, and pools beside Flux's applier
	cd tests/bench && $(GO) test -run '^$$' -bench . -benchmem ./...
	cd tests/apiserver && ATOLL_KUBE_APISERVER=$(APISERVER) $(GO) test -tags bench -count=1 -timeout 30m -run TestConverge -v .

fuzz: ## each fuzz target for half a minute
	@tests/fuzz.sh 30s

clean: ## remove what was built
	rm -rf $(BIN)
