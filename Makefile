# tickcast: both programs, their tests and their installation. `make help` lists the targets.
#
# Variables a caller may set: BUILD (output folder), CC, CFLAGS, LDFLAGS, PREFIX, DESTDIR,
# SYSCONFDIR (/etc), UNITDIR (PREFIX/lib/systemd/system), SANITIZE (what to hand to -fsanitize=),
# FUZZ_SECONDS (per fuzzer), SOAK_SECONDS and SEED of the soak (a run is tried again with the seed
# that it printed), PYTHON.

VERSION  := 0.1.0
BUILD    ?= build
PREFIX   ?= /usr/local
CC       ?= cc
CLANG    ?= clang
PYTHON   ?= /usr/bin/python3
CFLAGS   ?= -O2 -g
SANITIZE ?=
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
SEED     ?=

PKGS     := libevent_core libevent_extra libevent_pthreads hiredis libcjson zlib libcrypto
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wvla \
            -Wformat=2 -Wundef -Werror
HARDEN   := -fPIE -fstack-protector-strong -fno-strict-aliasing
ifeq ($(SANITIZE),)
HARDEN   += -D_FORTIFY_SOURCE=2
else
HARDEN   += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
SANLINK  := -fsanitize=$(SANITIZE)
endif
ALL_CFLAGS  = -std=c11 -D_GNU_SOURCE -DTICKCAST_VERSION='"$(VERSION)"' -Iinclude -I$(BUILD)/gen \
              $(WARNINGS) $(HARDEN) $(shell pkg-config --cflags $(PKGS)) -pthread -MMD -MP $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -pthread $(SANLINK) $(LDFLAGS)
LIBS        = $(shell pkg-config --libs $(PKGS)) -lm

# Each layer may use those before it and none behind it; scripts/check-layers holds us to it.
LAYERS   := base protocol runtime domain surface
LIB_SRC  := $(sort $(foreach l,$(LAYERS),$(wildcard src/$(l)/*.c)))
APP_SRC  := $(sort $(wildcard src/app/*.c))
CTL_SRC  := $(sort $(wildcard src/ctl/*.c))
UNIT_SRC := $(sort $(wildcard tests/unit/*.c))
# The parts of tickcastctl without sockets; the unit tests link them beside the library.
CTL_PURE := $(addprefix src/ctl/,bench_latency.c bench_tape.c json_scan.c line_reader.c market.c tape.c \
            ws_upgrade.c ws_url.c)
FUZZERS  := $(sort $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c)))

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB := $(BUILD)/libtickcast.a

.PHONY: FORCE all check unit e2e asan tsan lint fuzz soak rolling bench install clean help
all: $(BUILD)/tickcast $(BUILD)/tickcastctl

$(BUILD)/tickcast: $(call obj,$(APP_SRC)) $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/tickcastctl: $(call obj,$(CTL_SRC)) $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(LIB): $(call obj,$(LIB_SRC))
	rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The live page is one HTML file, carried inside the program as an array of bytes.
$(BUILD)/gen/page_html.h: src/surface/page.html Makefile
	@mkdir -p $(@D)
	{ echo 'static const unsigned char page_html[] = {'; \
	  od -An -v -tx1 $< | sed 's/ \(..\)/0x\1,/g'; echo '};'; } > $@
$(BUILD)/obj/src/surface/client_http.o: $(BUILD)/gen/page_html.h

# So is the publishing script, with the digest that Redis knows it by.
$(BUILD)/gen/publish_lua.h: scripts/publish.lua Makefile
	@mkdir -p $(@D)
	{ echo 'static const unsigned char publish_lua[] = {'; \
	  od -An -v -tx1 $< | sed 's/ \(..\)/0x\1,/g'; echo '};'; \
	  sha1sum < $< | sed 's/^\([0-9a-f]*\).*/static const char publish_lua_sha1[] = "\1";/'; } > $@
$(BUILD)/obj/src/protocol/publish_script.o: $(BUILD)/gen/publish_lua.h

# --- tests -------------------------------------------------------------------------------------

# Every tests/unit/test_x.c defines `const struct unit_suite suite_x`; the list is made from names.
SUITES := $(patsubst tests/unit/test_%.c,%,$(filter tests/unit/test_%.c,$(UNIT_SRC)))
$(BUILD)/gen/unit_suites.h: $(UNIT_SRC) Makefile
	@mkdir -p $(@D)
	{ for s in $(SUITES); do echo "extern const struct unit_suite suite_$$s;"; done; \
	  echo 'static const struct unit_suite *const unit_suites[] = {'; \
	  for s in $(SUITES); do echo "    &suite_$$s,"; done; echo '    NULL};'; } > $@
$(BUILD)/obj/tests/unit/main.o: $(BUILD)/gen/unit_suites.h

# Of the app layer everything but main is theirs to try.
$(BUILD)/unit: $(call obj,$(UNIT_SRC) $(CTL_PURE) $(filter-out src/app/main.c,$(APP_SRC))) $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(shell pkg-config --libs cunit)

unit: $(BUILD)/unit
	$(BUILD)/unit $(TESTS)

check: unit

e2e: all
	BUILD=$(abspath $(BUILD)) $(PYTHON) -m pytest -q tests/e2e $(PYTEST_ARGS)

asan tsan:
	scripts/test $@

# libFuzzer needs clang; each fuzzer keeps its seeds in tests/fuzz/seeds/<name>.
$(BUILD)/fuzz/%: tests/fuzz/%.c $(wildcard src/base/*.c src/protocol/*.c) $(BUILD)/gen/publish_lua.h
	@mkdir -p $(@D)
	$(CLANG) -std=c11 -D_GNU_SOURCE -DTICKCAST_VERSION='"$(VERSION)"' -Iinclude -I$(BUILD)/gen -g -O1 \
	    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    $(shell pkg-config --cflags $(PKGS)) -pthread -o $@ $(filter %.c,$^) $(LIBS)

# Those that reach into the runtime name what they need of it; it must do without an event loop.
$(BUILD)/fuzz/fuzz_redis_stream: src/runtime/redis_link_parse.c src/runtime/redis_link_tree.c

fuzz: $(addprefix $(BUILD)/fuzz/,$(FUZZERS))
	BUILD=$(BUILD) scripts/fuzz $(FUZZ_SECONDS) $(FUZZERS)

# Hundreds of clients under noise, each history judged; the seed is printed first.
soak: all
	BUILD=$(abspath $(BUILD)) $(PYTHON) tests/soak/run.py --seconds $(SOAK_SECONDS) \
	    $(if $(SEED),--seed $(SEED)) $(SOAK_ARGS)

# A whole fleet is restarted node by node, with thousands of clients; what each one got is judged.
rolling: all
	BUILD=$(abspath $(BUILD)) $(PYTHON) tests/fleet/run.py $(if $(SEED),--seed $(SEED)) $(ROLLING_ARGS)

lint:
	scripts/lint

# W=w1 or W=w1.alone,w6 names workloads; BENCH_ARGS=--list shows them.
bench: all
	$(MAKE) $(BUILD)/bare_loop
	BUILD=$(abspath $(BUILD)) $(PYTHON) tests/bench/run.py $(if $(W),--only $(W)) $(BENCH_ARGS)

$(BUILD)/bare_loop: tests/bench/bare_loop.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -pie -o $@ $^

# --- installation ------------------------------------------------------------------------------

SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
UNITS      := $(notdir $(wildcard systemd/*))

# What the units call things by; /usr/local and /etc are where they stand in the source.
$(BUILD)/gen/systemd/%: systemd/% FORCE
	@mkdir -p $(@D)
	sed 's,/usr/local/,$(PREFIX)/,; s,/etc/tickcast,$(SYSCONFDIR)/tickcast,g' $< >$@
FORCE:

# As in the source, so that their links to each other lead somewhere.
DOCUMENTS := README.md CHANGELOG.md CONTRIBUTING.md LICENSE

# They find fleet.sh and publish.lua beside them, and tickcastctl in ../../bin.
FLEET_SCRIPTS := $(addprefix scripts/,rolling-restart status publish-quote canary)

install: all $(addprefix $(BUILD)/gen/systemd/,$(UNITS))
	install -D -m 0755 $(BUILD)/tickcast $(DESTDIR)$(PREFIX)/bin/tickcast
	install -D -m 0755 $(BUILD)/tickcastctl $(DESTDIR)$(PREFIX)/bin/tickcastctl
	install -D -m 0644 conf/tickcast.conf $(DESTDIR)$(PREFIX)/share/tickcast/tickcast.conf
	install -m 0644 $(wildcard conf/*.example) conf/prometheus-rules.yml \
	    conf/grafana-dashboard.json scripts/publish.lua scripts/fleet.sh \
	    $(DESTDIR)$(PREFIX)/share/tickcast
	install -m 0755 $(FLEET_SCRIPTS) $(DESTDIR)$(PREFIX)/share/tickcast
	install -D -m 0644 docs/tickcast.1 $(DESTDIR)$(PREFIX)/share/man/man1/tickcast.1
	install -D -m 0644 docs/tickcastctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/tickcastctl.1
	install -d -m 0755 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/share/doc/tickcast/docs
	install -m 0644 $(addprefix $(BUILD)/gen/systemd/,$(UNITS)) $(DESTDIR)$(UNITDIR)
	install -m 0644 $(DOCUMENTS) $(DESTDIR)$(PREFIX)/share/doc/tickcast
	install -m 0644 $(wildcard docs/*.md docs/*.svg) $(DESTDIR)$(PREFIX)/share/doc/tickcast/docs
	install -d -m 0755 $(DESTDIR)$(SYSCONFDIR)/tickcast
	[ -e $(DESTDIR)$(SYSCONFDIR)/tickcast/tickcast.conf ] || \
	    install -m 0644 conf/tickcast.conf $(DESTDIR)$(SYSCONFDIR)/tickcast/tickcast.conf

clean:
	rm -rf $(BUILD)

help:
	@sed -n 's/^\([a-z0-9 ]*\):.*/\1/p' Makefile | tr ' ' '\n' | sort -u

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
