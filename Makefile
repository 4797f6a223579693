# Atoll: `make demo` shows it, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
GO ?= go
BIN := bin

.PHONY: help deps build generate lint test test-fast test-gluster test-block test-csi test-apiserver test-cluster e2e e2e-k8s \
  image-programs images cluster-up cluster-down demo bench fuzz clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

deps: ## install what tests and demo need from Debian packages (as root)
	@tests/deps.sh

build: ## programs, in bin/
	@mkdir -p $(BIN)
	$(GO) build -trimpath -o $(BIN)/ ./cmd/...

generate: ## everything that is made from the CUE schema
	$(GO) generate ./...

lint: ## gofumpt, vet, staticcheck
	@unformatted=$$($(GO) tool gofumpt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted, run 'go tool gofumpt -w':"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd tests/bench && $(GO) vet -tags bench ./...
	cd tests/apiserver && $(GO) vet -tags bench ./...
	cd tests/sanity && $(GO) vet ./...

test: deps lint test-fast test-gluster test-block test-csi test-apiserver test-cluster ## everything, fast first; skips are listed at the end

# Packages whose tests start real bricks and mounts.
REAL := /tests/(gluster|pods|demo|csi|uml)$$
# The cluster's has a target of its own, and so have the fences: they hang on time, and have
# the machine for themselves.
OWN := /tests/(e2e|block)$$

test-fast: ## all that starts no daemons
	@tests/run.sh fast $$($(GO) list ./... | grep -vE '$(REAL)|$(OWN)')

test-gluster: ## real bricks, mounts and self-heal (root)
	@tests/run.sh gluster $$($(GO) list ./... | grep -E '$(REAL)') -count=1 -timeout 20m

test-block: ## fences, faults, snapshots and databases of block volumes (root)
	@tests/run.sh block -count=1 -timeout 40m ./tests/block

test-csi: ## csi-sanity on every kind of pool (root)
	@IN=tests/sanity tests/run.sh csi -count=1 ./...

# Programs of Kubernetes and others are built once, from modules that pin them: a changed
# version in tests/cluster/binaries builds them again.
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

ARCHES ?= amd64 arm64

image-programs: ## what the Dockerfile copies, for each of ARCHES
	@for a in $(ARCHES); do mkdir -p $(BIN)/linux-$$a && \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$a $(GO) build -trimpath -ldflags='-s -w' -o $(BIN)/linux-$$a/ ./cmd/... || exit 1; done

images: $(CLUSTER) ## container images for the test cluster, by the Dockerfile, without Docker (root)
	@$(GO) run ./tests/cluster/atoll-cluster images

cluster-up: deps images ## a Kubernetes cluster of three nodes on this machine (root)
	@$(GO) build -o $(BIN)/atoll-cluster ./tests/cluster/atoll-cluster && $(BIN)/atoll-cluster up

cluster-down: ## end it
	@$(GO) run ./tests/cluster/atoll-cluster down

test-cluster: images ## claims, pods and a fault on a real cluster (root)
	@tests/run.sh cluster -count=1 -timeout 20m ./tests/e2e

e2e: deps $(PROGRAMS)/kustomize-controller images ## all pools, claims and faults on a real cluster; makes the table of docs/reliability.md (root)
	@tests/run.sh e2e -count=1 -timeout 60m ./tests/e2e -full -report $(CURDIR)/.cache/reliability.md

e2e-k8s: deps $(PROGRAMS)/agnhost $(PROGRAMS)/e2e.test images ## Kubernetes' own storage suite; makes the tables of docs/conformance.md (root)
	@tests/run.sh e2e-k8s -count=1 -timeout 170m ./tests/e2e -run TestKubernetesSuite -suite -report $(CURDIR)/.cache/conformance

test-apiserver: $(APISERVER) ## rendered objects on a real kube-apiserver and etcd
	@IN=tests/apiserver ATOLL_KUBE_APISERVER=$(APISERVER) tests/run.sh apiserver -count=1 -timeout 20m .

demo: deps ## from a pool document to data on a mounted volume (root)
	@$(GO) run ./tests/demo

bench: $(APISERVER) ## documents a second beside kubeconform, volumes, blocks beside folders, and pools beside Flux's applier
	cd tests/bench && $(GO) test -run '^$$' -bench . -benchmem ./...
	cd tests/bench && $(GO) test -tags bench -count=1 -timeout 60m -run TestBlocks -v . -plot $(CURDIR)/.cache/block-volumes.svg
	cd tests/apiserver && ATOLL_KUBE_APISERVER=$(APISERVER) $(GO) test -tags bench -count=1 -timeout 30m -run TestConverge -v .

fuzz: ## each fuzz target for half a minute
	@tests/fuzz.sh 30s

clean: ## remove what was built
	rm -rf $(BIN)
