# partbackfill: make, make install, make check, make stress, make demo, make bench
#
# make check SANITIZE=1 runs the tests on a library that is built with sanitizers.
#
# The goals below need a throw-away installation and cluster. They install what
# is missing first, so they must work before the server's headers are there:
# PGXS is read only for the others.
harness_goals = check stress demo bench deps tidy

ifneq (,$(filter $(harness_goals),$(MAKECMDGOALS)))

.PHONY: $(harness_goals)
$(harness_goals):
	@test/setup/run.sh $@

else

PG_CONFIG ?= pg_config
override with_llvm := no

EXTENSION = partbackfill
DATA = sql/partbackfill--1.1.sql
MODULE_big = partbackfill
sources = $(wildcard src/*.cpp src/*/*.cpp)
OBJS = $(sources:.cpp=.o)
EXTRA_CLEAN = $(sources:.cpp=.d) build

PG_CPPFLAGS = -Iinclude -isystem $(shell $(PG_CONFIG) --includedir-server) -DFMT_HEADER_ONLY -MMD -MP
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Werror
SHLIB_LINK += -lstdc++

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# SANITIZE=1 is for a server that runs with libasan preloaded: test/setup/sanitizer.sh. The checked variants of memcpy
# and its like that _FORTIFY_SOURCE brings would hide their calls from it, and -fwrapv an overflow.
ifdef SANITIZE
sanitizers = -fsanitize=address,undefined -fno-sanitize-recover=undefined
override CXXFLAGS += $(sanitizers) -fno-omit-frame-pointer -fno-wrapv -Og -g1 -Wno-maybe-uninitialized
override CPPFLAGS += -U_FORTIFY_SOURCE
SHLIB_LINK += $(sanitizers)
endif

# Objects made for another server must not be linked with new ones: the dependencies leave system headers out, so
# they would not notice. The stamp is touched only when the server changes, or SANITIZE.
server_stamp = build/server
server_version := $(strip $(shell $(PG_CONFIG) --version) $(shell $(PG_CONFIG) --includedir-server) $(SANITIZE))
ifneq ($(server_version),$(shell cat $(server_stamp) 2>/dev/null))
$(shell mkdir -p $(dir $(server_stamp)) && echo "$(server_version)" >$(server_stamp))
endif
$(OBJS): $(server_stamp)

-include $(sources:.cpp=.d)

endif
