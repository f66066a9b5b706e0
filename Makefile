# partbackfill: make, make install, make installcheck; make check, make check-all, make lint, make stress, make demo, make bench,
# make deb
#
# make check SANITIZE=1 runs the tests on a library that is built with sanitizers.
#
# The goals below need a throw-away installation and cluster. They install what
# is missing first, so they must work before the server's headers are there:
# PGXS is read only for the others.
harness_goals = check check-all lint stress demo bench deb deps

ifneq (,$(filter $(harness_goals),$(MAKECMDGOALS)))

.PHONY: $(harness_goals)
$(harness_goals):
	@test/setup/run.sh $@

else

PG_CONFIG ?= pg_config
override with_llvm := no

EXTENSION = partbackfill
DATA = sql/partbackfill--1.1.sql sql/partbackfill--1.0.sql sql/partbackfill--1.0--1.1.sql
MODULE_big = partbackfill
sources = $(wildcard src/*/*.cpp)
# A room is one unit of compilation: 130 would read the same headers 130 times, which takes four times as long. A file stands
# apart that has functions of the same names as another one of its room. UNITS=files compiles each file by itself, as
# clang-tidy does.
apart = src/swap/storage.cpp
rooms = $(sort $(notdir $(patsubst %/,%,$(dir $(sources)))))
ifeq ($(UNITS),files)
OBJS = $(sources:.cpp=.o)
else
OBJS = $(rooms:%=build/units/%.o) $(apart:.cpp=.o)
endif
EXTRA_CLEAN = $(sources:.cpp=.o) $(sources:.cpp=.d) build

PG_CPPFLAGS = -Iinclude -isystem $(shell $(PG_CONFIG) --includedir-server) -MMD -MP
# Debugging information of lines and functions only; DEBUG=-g3 is for those who step through the code.
DEBUG = -g1
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Werror $(DEBUG)
SHLIB_LINK += -lfmt -lstdc++

# make installcheck: on a running server in which the extension is installed, as a superuser of it (PGHOST, PGPORT,
# PGUSER) who may start servers too, as root may not: the TAP scripts make their own. The first script creates the
# extension for the others. One at a time: a job's workers take slots, and a script looks at all jobs.
REGRESS = install $(filter-out install partbackfill--%,$(basename $(notdir $(wildcard sql/*.sql))))
ISOLATION = $(basename $(notdir $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=partbackfill
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl
NO_LOCALE = 1
ENCODING = UTF8

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

PG_PROVE_FLAGS += -I test/t
# Since version 16 the expected output is not looked for beside the input.
ISOLATION_OPTS += $(if $(filter-out 15,$(MAJORVERSION)),--expecteddir=test/isolation)

# SANITIZE=1 is for a server that runs with libasan preloaded: test/setup/sanitizer.sh. The checked variants of memcpy
# and its like that _FORTIFY_SOURCE brings would hide their calls from it, and -fwrapv an overflow.
ifdef SANITIZE
sanitizers = -fsanitize=address,undefined -fno-sanitize-recover=undefined
override CXXFLAGS += $(sanitizers) -fno-omit-frame-pointer -fno-wrapv -Og -g1 -Wno-maybe-uninitialized
override CPPFLAGS += -U_FORTIFY_SOURCE
SHLIB_LINK += $(sanitizers)
endif

# Objects made for another server must not be linked with new ones: the dependencies leave system headers out, so
# they would not notice. The stamp is touched only when the server changes, or SANITIZE; installcheck builds nothing.
server_stamp = build/server
server_version := $(strip $(shell $(PG_CONFIG) --version) $(shell $(PG_CONFIG) --includedir-server) $(SANITIZE))
ifneq ($(MAKECMDGOALS),installcheck)
ifneq ($(server_version),$(shell cat $(server_stamp) 2>/dev/null))
$(shell mkdir -p $(dir $(server_stamp)) && echo "$(server_version)" >$(server_stamp))
endif
endif
$(OBJS): $(server_stamp)

.SECONDARY: $(rooms:%=build/units/%.cpp)
build/units/%.cpp: src/%
	@mkdir -p $(@D)
	ls $</*.cpp | grep -v -x -F $(apart:%=-e %) | sed 's/.*/#include "&"/' >$@

-include $(OBJS:.o=.d)

endif
