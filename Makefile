# `make run` and `make test` are complete on a fresh Debian 12 with Swift: each installs what is
# missing first. ARGS is handed on: make run ARGS="--memory 64M", make test ARGS="--filter StreamWire".

PACKAGES := liburing-dev zlib1g-dev pkg-config
C_PACKAGES := gcc binutils
TEST_PACKAGES := qemu-system-x86 binutils python3-venv iproute2 g++ chromium

# Folders that do not exist yet are left out, so that linting is strict about those that do.
SWIFT_SOURCES := $(wildcard Sources Tests examples Package.swift)

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test examples docs bench bench-qemu simulate simulate-mutants lint format build clean deps test-deps

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# One round of precopy, so that all parts are seen: by itself this workload fits into the downtime.
run: ARGS ?= --switch-after-rounds 1
run: deps ## build and migrate a running workload on this machine
	@swift build -c release --product postcopy
	@.build/release/postcopy run $(ARGS)

test: test-deps lint c-library ## lint, build and run every test; the last line counts them
	@.ci/test $(ARGS)

examples: deps c-library ## build and run every example
	@.ci/examples $(ARGS)

docs: deps ## convert the library's documentation; .build/docs is what a browser shows
	@.ci/docs

bench: deps ## measure, beside the floor of this machine
	@swift build -c release --product postcopy-bench
	@.build/release/postcopy-bench $(ARGS)

bench-qemu: test-deps ## compare who serves a missing page how fast, we or a QEMU
	@swift build -c release --product postcopy
	@.build/interop/bin/python3 Tests/Interop/run.py latency --random --repeat 5 $(ARGS)

# Needs nothing but Swift: the core of both sides on virtual time.
SEEDS ?= 100000

simulate: deps ## run SEEDS migrations over links that break, all from their seeds
	@swift build -c release --product postcopy-simulate
	@.build/release/postcopy-simulate --seeds $(SEEDS) $(ARGS)

simulate-mutants: deps ## break the core on purpose and show which law finds it at which seed
	@Tests/Simulation/Mutants/run 10000 $(ARGS)

lint: ## check the format of every Swift file
	@swift format lint --strict --parallel --recursive $(SWIFT_SOURCES)

format: ## rewrite every Swift file in the house format
	@swift format --in-place --parallel --recursive $(SWIFT_SOURCES)

build: deps ## build everything for release
	@swift build -c release

# The C library goes below PREFIX, and a package's files below DESTDIR before that.
PREFIX ?= /usr/local
C_LIBRARY := .build/c-library
C_HEADERS := CShims/abi
PLACE := $(DESTDIR)$(abspath $(PREFIX))

c-library: deps ## build the C library: libpostcopy, shared and static
	@.ci/install-packages $(C_PACKAGES)
# SwiftPM adds to an archive and takes nothing out: a file that is gone would stay in it.
	@rm -f .build/release/libPostcopyC.a
	@swift build -c release --product PostcopyC
	@$(C_HEADERS)/link .build/release/libPostcopyC.a $(C_LIBRARY)

install: c-library install-built ## install the C library: make install PREFIX=/usr/local DESTDIR=

install-built:
	@install -d $(PLACE)/include/postcopy $(PLACE)/lib/pkgconfig
	@install -m 644 $(C_HEADERS)/postcopy.h $(PLACE)/include
	@install -m 644 $(C_HEADERS)/postcopy/*.h $(PLACE)/include/postcopy
	@install -m 644 $(C_LIBRARY)/libpostcopy.a $(PLACE)/lib
	@install -m 755 $(C_LIBRARY)/libpostcopy.so.1 $(PLACE)/lib
	@ln -sf libpostcopy.so.1 $(PLACE)/lib/libpostcopy.so
	@sed 's|@PREFIX@|$(abspath $(PREFIX))|' $(C_HEADERS)/postcopy.pc.in >$(PLACE)/lib/pkgconfig/postcopy.pc

uninstall: ## remove what make install put there, with the same PREFIX and DESTDIR
	@rm -f $(PLACE)/include/postcopy.h $(PLACE)/lib/pkgconfig/postcopy.pc
	@rm -f $(addprefix $(PLACE)/lib/libpostcopy,.a .so .so.1)
	@rm -rf $(PLACE)/include/postcopy

clean: ## remove what was built
	@rm -rf .build

deps:
	@.ci/install-packages $(PACKAGES)

test-deps: deps
	@.ci/install-packages $(TEST_PACKAGES)
	@.ci/install-python .build/interop Tests/Interop/requirements.txt
	@.ci/install-python .build/pages Tests/Pages/requirements.txt
