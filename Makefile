# What can be done with this tree. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help build test property fuzz sanitize campaign campaign-short campaign-mutants soak lint bench docs demo install clean
SHELL := /bin/bash

PREFIX ?= /usr/local
DESTDIR ?=
# More words for `swift build` and `swift test`, such as `--filter GateTests` or `--sanitize=thread`.
SWIFT_FLAGS ?=
TEST_FLAGS ?=
# For `make demo`: the kind of destination (sftp, webdav, s3), a lab tree of your own, and whether to keep the demo's files.
export DRIVER RUNS KEEP

help:  ## this list
	@printf 'NASSync\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nVariables: PREFIX=%s DESTDIR= SWIFT_FLAGS= TEST_FLAGS=; demo: DRIVER=sftp|webdav|s3 RUNS=/path/to/lab-tree KEEP=1\n' '$(PREFIX)'

build: dependencies  ## the program, for development
	swift build $(SWIFT_FLAGS)

test: dependencies  ## every test; real servers on loopback, about as long as a cup of tea
	scripts/test $(TARGETS)

# Steps and first seed of `make property`.
STEPS ?= 100000
SEED ?= 1
property: dependencies  ## random sequences of all that can happen, checked after each step: STEPS=100000 SEED=1
	NASSYNC_PROPERTY_STEPS=$(STEPS) NASSYNC_PROPERTY_SEED=$(SEED) swift test $(SWIFT_FLAGS) --filter '^NASSyncTests\.PropertyTests'

# How many inputs each target of `make fuzz` gets, and which targets.
INPUTS ?= 10000000
FUZZ ?=
fuzz: dependencies  ## every parser against libFuzzer: INPUTS=10000000 FUZZ="manifest sftp"
	RUNS=$(INPUTS) scripts/fuzz $(FUZZ)

# Which sanitizer, and which test targets: SANITIZE="thread HTTPTests".
SANITIZE ?=
sanitize: dependencies  ## the tests under the thread and the address sanitizer: SANITIZE="thread HTTPTests"
	scripts/sanitize $(SANITIZE)

# For `make campaign`: words for scripts/campaign/campaign.py, such as `kill --driver s3 --seed 7`.
CAMPAIGN ?=
campaign: release  ## kills, faults and corruption against the release program, looked at independently: CAMPAIGN="kill --seed 7"
	scripts/campaign/campaign.py $(CAMPAIGN)

campaign-short: release  ## the same, bounded to a few minutes
	scripts/campaign/campaign.py --short $(CAMPAIGN)

campaign-mutants: dependencies  ## removes one safeguard after the other and shows that the campaign notices
	scripts/campaign/mutants.py $(MUTANTS)

# For `make soak`: how long, and words for scripts/campaign/soak.py, such as `--seed 7 --driver webdav`.
MINUTES ?= 10
SOAK ?=
soak: release  ## one service, eight instruments, faults all the time; memory and descriptors stay flat: MINUTES=10
	scripts/campaign/soak.py --minutes $(MINUTES) $(SOAK)

lint:  ## formatting, the scripts' syntax, the house rules
	@scripts/lint

# Which measurements; see scripts/bench.
BENCH ?=
bench: dependencies  ## the measurements, in release mode: BENCH=short ends in minutes, BENCH="A B50" are workloads over SFTP
	scripts/bench $(BENCH)

docs: dependencies  ## the library's reference, into docs-out/
	scripts/docs

demo: dependencies  ## the main job on real instrument files, against a private NAS on loopback: DRIVER=sftp|webdav|s3
	@scripts/demo/run

install: dependencies  ## the program, completion, an example configuration: PREFIX=/usr/local
	swift build -c release --static-swift-stdlib --product nassync $(SWIFT_FLAGS)
	scripts/install-files "$$(swift build -c release --static-swift-stdlib --show-bin-path $(SWIFT_FLAGS))/nassync" "$(DESTDIR)" "$(PREFIX)"

clean:  ## what was built
	swift package clean
	rm -rf docs-out bench-out

.PHONY: dependencies release
release: dependencies
	swift build -c release --product nassync $(SWIFT_FLAGS)

dependencies:
	@scripts/install-dependencies
