# make, make install     build the extension, install it into the PostgreSQL of pg_config
# make demo, demo-stop   try it in a private cluster with real data
# make check             every test but the long ones; check-long: those;
#                        TESTS="t/worker isolation/forget" only some
# make check-asan        make check under AddressSanitizer and UBSan; TESTS, too
# make bench             measure it
# make format, lint      lay out the code, look for mistakes; format-check only looks
#
# The targets of the last five lines install the packages they need.

EXTENSION = reputation
EXTVERSION = 1.0

MODULE_big = reputation
SOURCES = $(sort $(wildcard src/*.c src/*/*.c src/engines/*/*.c))
OBJS = $(SOURCES:.c=.o)
HEADER_FILES = $(wildcard src/*/*.h src/engines/*/*.h)

SQL_MODULES = $(sort $(wildcard sql/[0-9][0-9]-*.sql))
DATA = $(wildcard sql/updates/$(EXTENSION)--*--*.sql)
DATA_built = sql/$(EXTENSION)--$(EXTVERSION).sql

PG_CPPFLAGS = -I$(CURDIR)/src
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare
SHLIB_LINK = -lm

# For make installcheck, in a running server that preloads the library.
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --outputdir=tmp
ISOLATION = $(patsubst test/isolation/specs/%.spec,%,$(sort $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --outputdir=tmp/isolation
REGRESS_PREP = tmp/isolation

EXTRA_CLEAN = tmp/results tmp/isolation tmp/regression.*

# No LLVM bitcode: it would need clang.
override with_llvm = no

TASKS = bench check check-asan check-long demo demo-stop format format-check lint

# PGXS is read for its own targets only: the tasks must work where PostgreSQL
# is not installed yet, and PGXS has a "check" of its own.
ifneq ($(filter-out $(TASKS),$(or $(MAKECMDGOALS),all)),)
PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
ifeq ($(and $(PGXS),$(wildcard $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h)),)
$(error pg_config or the server headers are missing; tools/install-deps installs them)
endif
include $(PGXS)

$(OBJS): $(HEADER_FILES)

$(DATA_built): $(SQL_MODULES)
	cat $^ > $@

tmp/isolation:
	mkdir -p $@
endif

ifneq ($(filter $(TASKS),$(MAKECMDGOALS)),)
.PHONY: $(TASKS)

bench demo demo-stop lint:
	@tools/$@

check:
	@tools/check $(TESTS)

check-asan:
	@tools/check asan $(TESTS)

check-long:
	@tools/check long

format:
	@tools/format

format-check:
	@tools/format --check
endif
