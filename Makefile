# Atoll: `make demo` shows it, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
GO ?= go
BIN := bin

.PHONY: help deps build generate lint lint-format lint-vet lint-static test test-under-load test-fast test-gluster test-block \
  test-quota test-csi test-apiserver test-cluster test-bench e2e e2e-k8s programs image-programs images cluster-up cluster-down \
  demo bench fuzz clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

deps: ## install the Debian packages that tests and demo need (as root)
	@tests/deps.sh

build: ## build the programs into bin/
	@mkdir -p $(BIN)
	$(GO) build -trimpath -o $(BIN)/ ./cmd/...

generate: ## regenerate files derived from the CUE schema, and deepcopy code
	$(GO) generate ./...

lint: lint-format lint-static ## golangci-lint: vet, staticcheck, formatting and others (.golangci.yml)

lint-format:
	@unformatted=$$($(GO) tool gofumpt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted, run 'go tool gofumpt -w':"; echo "$$unformatted"; exit 1; fi

lint-vet:
	$(GO) vet ./...
	cd tests/bench && $(GO) vet ./...
	cd tests/apiserver && $(GO) vet ./...
	cd tests/sanity && $(GO) vet ./...

# golangci-lint is built from a module of its own, which pins it; that takes minutes the first time.
GOLANGCI := $(GO) tool -modfile=$(CURDIR)/tools/golangci-lint/go.mod golangci-lint run \
  --allow-parallel-runners --config=$(CURDIR)/.golangci.yml

lint-static:
	$(GOLANGCI) ./...
	cd tests/bench && $(GOLANGCI) ./...
	cd tests/apiserver && $(GOLANGCI) ./...
	cd tests/sanity && $(GOLANGCI) ./...

# Suites run side by side; each has a log in .cache/test-NAME.log. ARGS are more arguments
# for 'go test', such as ARGS='-run TestRace'. tests/README.md says what each suite proves.
SUITES := GO=$(GO) $(GO) run ./tests/internal/runsuites

test: deps ## all tests, side by side; failures and skips are listed at the end
	@$(SUITES)

test-under-load: deps ## make test N times (default 5) with all cores busy
	@tests/under-load.sh $(or $(N),5)

test-fast: ## tests that start no daemons
	@$(SUITES) fast -- $(ARGS)

test-gluster: ## real bricks, mounts, pods and self-heal (root)
	@$(SUITES) gluster -- $(ARGS)

test-block: ## fencing, faults, snapshots and databases of block volumes (root)
	@$(SUITES) block -- $(ARGS)

test-quota: ## XFS project quotas, in virtual machines (amd64)
	@$(SUITES) quota -- $(ARGS)

test-csi: ## csi-sanity on every type of pool (root)
	@$(SUITES) csi -- $(ARGS)

# Programs of Kubernetes and others are built once, from modules that pin their versions. A
# changed version in tests/cluster/binaries rebuilds them.
PROGRAMS := $(CURDIR)/.cache/bin
APISERVER := $(PROGRAMS)/kube-apiserver
KUBERNETES := $(addprefix $(PROGRAMS)/,kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl)
KUBERNETES_VERSION := $(shell sed -n 's/.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' tests/cluster/binaries/kubernetes/go.mod)
STAMP := -s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES_VERSION)
pinned = @mkdir -p $(PROGRAMS) && echo "building $(@F), which takes a minute or more the first time" && \
  cd tests/cluster/binaries/$(1) && $(4) $(GO) build -ldflags='$(2)' -o $@ $(3)

$(KUBERNETES): tests/cluster/binaries/kubernetes/go.mod
	$(call pinned,kubernetes,$(STAMP),k8s.io/kubernetes/cmd/$(@F))

$(PROGRAMS)/csi-provisioner: tests/cluster/binaries/provisioner/go.mod
	$(call pinned,provisioner,-s -w,github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner,CGO_ENABLED=0)

$(PROGRAMS)/csi-attacher: tests/cluster/binaries/attacher/go.mod
	$(call pinned,attacher,-s -w,github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher,CGO_ENABLED=0)

$(PROGRAMS)/csi-resizer: tests/cluster/binaries/resizer/go.mod
	$(call pinned,resizer,-s -w,github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer,CGO_ENABLED=0)

$(PROGRAMS)/csi-snapshotter $(PROGRAMS)/snapshot-controller: tests/cluster/binaries/snapshotter/go.mod
	$(call pinned,snapshotter,-s -w,github.com/kubernetes-csi/external-snapshotter/v8/cmd/$(@F),CGO_ENABLED=0)

$(PROGRAMS)/coredns: tests/cluster/binaries/coredns/go.mod
	$(call pinned,coredns,-s -w,.)

$(PROGRAMS)/kustomize-controller: tests/cluster/binaries/flux/go.mod
	$(call pinned,flux,-s -w,github.com/fluxcd/kustomize-controller)

$(PROGRAMS)/agnhost: tests/cluster/binaries/kubernetes/go.mod
	$(call pinned,kubernetes,-s -w,k8s.io/kubernetes/test/images/agnhost,CGO_ENABLED=0)

$(PROGRAMS)/e2e.test: tests/cluster/binaries/kubernetes/go.mod
	@mkdir -p $(PROGRAMS) && echo "building Kubernetes' end to end tests, which takes minutes the first time"
	@cd tests/cluster/binaries/kubernetes && $(GO) test -c -vet=off -ldflags='-s -w' -o $@ k8s.io/kubernetes/test/e2e

CLUSTER := $(KUBERNETES) $(addprefix $(PROGRAMS)/,csi-provisioner csi-attacher csi-resizer csi-snapshotter snapshot-controller coredns)

programs: $(CLUSTER)

ARCHES ?= amd64 arm64

image-programs: ## build the programs that the Dockerfile copies, for each of ARCHES
	@for a in $(ARCHES); do mkdir -p $(BIN)/linux-$$a && \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$a $(GO) build -trimpath -ldflags='-s -w' -o $(BIN)/linux-$$a/ ./cmd/... || exit 1; done

images: $(CLUSTER) ## build container images for the test cluster from the Dockerfile, without Docker (root)
	@$(GO) run ./tests/cluster/atoll-cluster images

cluster-up: deps images ## start a Kubernetes cluster of three nodes on this machine (root)
	@$(GO) build -o $(BIN)/atoll-cluster ./tests/cluster/atoll-cluster && $(BIN)/atoll-cluster up

cluster-down: ## stop the cluster
	@$(GO) run ./tests/cluster/atoll-cluster down

test-cluster: images ## claims, pods and one fault on a real cluster (root)
	@$(SUITES) cluster -- $(ARGS)

e2e: deps $(PROGRAMS)/kustomize-controller images ## all pools, claims and faults on a real cluster; writes the table of docs/reliability.md (root)
	@$(SUITES) e2e -- $(ARGS)

e2e-k8s: deps $(PROGRAMS)/agnhost $(PROGRAMS)/e2e.test images ## Kubernetes' own storage suite; writes the tables of docs/conformance.md (root)
	@$(SUITES) e2e-k8s -- $(ARGS)

test-bench: ## each benchmark once, with small sizes (root)
	@$(SUITES) bench -- $(ARGS)

test-apiserver: $(APISERVER) ## rendered objects on a real kube-apiserver and etcd
	@$(SUITES) apiserver -- $(ARGS)

demo: deps ## go from a pool document to data on a mounted volume (root)
	@$(GO) run ./tests/demo

bench: deps $(APISERVER) ## measure vet, volumes and the reconciler beside others; writes the tables of docs/benchmarks.md (root)
	cd tests/bench && $(GO) test -count=1 -timeout 180m -run 'TestBlocks|TestPatience|TestMemory' -v -bench . . -full -report $(CURDIR)/docs
	cd tests/apiserver && ATOLL_KUBE_APISERVER=$(APISERVER) $(GO) test -count=1 -timeout 30m -run TestConverge -v . -full -report $(CURDIR)/docs

fuzz: ## run each fuzz target for half a minute
	@tests/fuzz.sh 30s

clean: ## remove built programs
	rm -rf $(BIN)
